"""Conversations of many turns: each turn computes what is new in it, and nothing twice.

    python -m tests.suites.conversations [--turns 10] [--block-size 32] [--seed N]

A fleet of its own with real engines: two prefill and two decode workers, two gateways over one
Valkey, asked by turns. The gateways are ended and started again in the middle. What engines
computed is their workers' own count: of a turn of one conversation by itself, and of those of
three others at once. Fails if it is more than the new part, from the beginning of the block
that it begins in, or if an answer is not that of one worker which has nothing cached.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from tests.suites.bounds import TooLong, bounded
from tests.suites.gateway import Gateway
from tests.suites.levels import abandoned_segments
from tests.suites.logs import log_folder
from tests.suites.talk import Count, Script, Turn, table
from tests.suites.wide_fleet import WideFleet
from tests.suites.work_done import WorkReport, computed_between
from tests.system.exchange import client, gather
from tests.system.processes import marked

# In it, answers do not depend on how sums were split up.
DTYPE = "float32"
ANSWER_TOKENS = 40
GATEWAYS = ("gateway-0", "gateway-1")
MODES = ("always", "auto")
ALONE = ("Ann",)
AT_ONCE = ("Ben", "Cleo", "Dora")
MAX_MINUTES = 12.0
# Of blocks that workers hold, and of those that the index has.
AUDIT_LIMIT = 0.01


@dataclass(slots=True)
class Study:
    """What was found, and what of it must not be."""

    counts: dict[str, list[Count]] = field(default_factory=dict)
    audits: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    num_checked: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, count: Count) -> None:
        self.counts.setdefault(name, []).append(count)
        self.problems += (f"{name}: {problem}" for problem in count.problems())

    def show(self) -> str:
        parts = [f"{name}\n{table(counts)}" for name, counts in self.counts.items()]
        for name, audits in self.audits.items():
            shares = "; ".join(
                f"{gateway}: {audit['num_held']} held, {audit['share_lacking']:.2%} lacking, "
                f"{audit['share_wrong']:.2%} wrong"
                for gateway, audit in zip(GATEWAYS, audits, strict=True)
            )
            parts.append(f"audit of the index, {name}: {shares}\n")
        parts.append(f"answers compared with those of one worker without cache: {self.num_checked}")
        return "\n".join(parts) + "\n"

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))


def main() -> int:
    options = parse()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    study = Study()
    segments_before = abandoned_segments()
    try:
        with bounded(MAX_MINUTES), log_folder(options.logs) as folder:
            run(options, folder, study)
    except TooLong as error:
        study.problems.append(str(error))
    except KeyboardInterrupt:
        study.problems.append("interrupted")
    if left := abandoned_segments() - segments_before:
        study.problems.append(f"shared memory is left: {sorted(left)}")
    study.save(options.json)
    found = "".join(f"problem: {each}\n" for each in study.problems)
    sys.stdout.write(f"{study.show()}{found or 'no problem' + chr(10)}")
    return 1 if study.problems else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.conversations")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=10, help="(default: 10)")
    parser.add_argument("--block-size", type=int, default=32, help="in tokens (default: 32)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--json", type=Path, default=Path(".baton/conversations.json"), help="where figures go"
    )
    parser.add_argument("--logs", type=Path, help="a folder for logs that stays")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path, study: Study) -> None:
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), tell)
    tell("starting two prefill and two decode workers")
    fleet = WideFleet(folder / "fleet", model, DTYPE)
    with closing(fleet):
        flags = {"engine-args": f"--block-size {options.block_size}"}
        fleet.start(2, 2, {"prefill": flags, "decode": flags})
        heard: list[Turn] = []
        for mode in MODES:
            heard += Session(fleet, mode, options, study).hold()
        check(fleet, heard, study)
    if left := marked(fleet.mark):
        study.problems.append(f"processes are left: {left}")


class Session:
    """All conversations of one mode, and the gateways that they are held over."""

    def __init__(
        self, fleet: WideFleet, mode: str, options: argparse.Namespace, study: Study
    ) -> None:
        self._fleet = fleet
        self._mode = mode
        self._options = options
        self._study = study
        # What goes the other way for comparison may well compute more.
        self._flags = {"disaggregation": mode, "control-share": 0}
        self._gateways: tuple[Gateway, ...] = ()

    def hold(self) -> list[Turn]:
        """All of their turns."""
        tell(f"{self._mode}: starting two gateways")
        self._gateways = self._fleet.start_gateways(GATEWAYS, self._flags)
        alone, at_once = (
            [Dialogue(self._script(name)) for name in names] for names in (ALONE, AT_ONCE)
        )
        for number in range(1, self._options.turns + 1):
            tell(f"{self._mode}: turn {number} of {self._options.turns}")
            self._ask(alone, f"{self._mode}, by itself", number)
            self._ask(at_once, f"{self._mode}, at once", number)
            if number == self._options.turns // 2:
                self._restart()
        self._study.audits[self._mode] = list(map(audit, self._gateways))
        for found in self._study.audits[self._mode]:
            if max(found["share_lacking"], found["share_wrong"]) > AUDIT_LIMIT:
                self._study.problems.append(f"{self._mode}: the index is not what workers hold")
        self._fleet.stop(*GATEWAYS)
        return [turn for each in (*alone, *at_once) for turn in each.turns]

    def _script(self, name: str) -> Script:
        seed, num_turns = self._options.seed, self._options.turns
        return Script.make(f"{name}, of {self._mode}", seed, num_turns)

    def _restart(self) -> None:
        tell(f"{self._mode}: ending the gateways, and starting them again")
        self._fleet.stop(*GATEWAYS)
        self._fleet.start_gateways(GATEWAYS, self._flags, before=self._gateways)

    def _ask(self, dialogues: Sequence[Dialogue], name: str, number: int) -> None:
        before = WorkReport.settled(self._gateways[0])
        with ThreadPoolExecutor(len(dialogues)) as threads:
            asked = [
                threads.submit(each.ask, self._gateways[index], str(index))
                for position, each in enumerate(dialogues)
                for index in [(number + position) % len(self._gateways)]
            ]
            turns = tuple(each.result() for each in asked)
        after = WorkReport.settled(self._gateways[0])
        self._study.add(name, Count(turns, computed_between(before, after), after.block_size))


class Dialogue:
    """A conversation as its client holds it."""

    def __init__(self, script: Script) -> None:
        self.turns: list[Turn] = []
        self._script = script
        self._messages = [{"role": "system", "content": script.system}]

    def ask(self, gateway: Gateway, name: str) -> Turn:
        """The next turn."""
        said = self._script.turns[len(self.turns)]
        self._messages.append({"role": "user", "content": said})
        body = {
            "model": gateway.model,
            "messages": self._messages,
            "max_tokens": ANSWER_TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "return_token_ids": True,
        }
        with client() as http:
            url = f"{gateway.url}/v1/chat/completions"
            response = http.post(url, json=body, headers={"x-baton-debug": "1"})
        answer = response.raise_for_status().json()
        found = gather([answer], [answer["choices"][0]])
        self._messages.append({"role": "assistant", "content": found.text})
        before = self.turns[-1] if self.turns else None
        short = self._script.name.partition(",")[0]
        route = response.headers["x-baton-route"]
        self.turns.append(Turn.after(before, short, name, found.prompt_ids, found.ids, route))
        return self.turns[-1]


def audit(gateway: Gateway) -> Mapping[str, Any]:
    """Whether its index is what the workers hold."""
    with client() as http:
        answer = http.get(f"{gateway.url}/fleet/index?audit=1").raise_for_status()
    found: Mapping[str, Any] = answer.json()["audit"]
    return found


def check(fleet: WideFleet, heard: Sequence[Turn], study: Study) -> None:
    """Asks for some of the answers again, each of one worker under a salt of its own."""
    last = max(turn.number for turn in heard)
    middle = (last // 2, last // 2 + 1)
    chosen = [
        turn
        for turn in heard
        if turn.number == last or (turn.conversation in ALONE and turn.number in middle)
    ]
    tell(f"asking for {len(chosen)} answers again, where nothing is cached")
    (gateway,) = fleet.start_gateways(["gateway-cold"], {"disaggregation": "never"})

    def ask_cold(number: int) -> tuple[int, ...]:
        body = {
            "model": gateway.model,
            "prompt": chosen[number].prompt_ids,
            "max_tokens": ANSWER_TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "return_token_ids": True,
            "cache_salt": f"cold {number}",
        }
        with client() as http:
            answer = http.post(gateway.completions, json=body).raise_for_status().json()
        return gather([answer], [answer["choices"][0]]).ids

    before = WorkReport.settled(gateway)
    with ThreadPoolExecutor(len(chosen)) as threads:
        answers = list(threads.map(ask_cold, range(len(chosen))))
    computed = sum(computed_between(before, WorkReport.settled(gateway)).values())
    study.num_checked = len(chosen)
    study.problems += differing(chosen, answers)
    if computed < sum(len(turn.prompt_ids) for turn in chosen):
        study.problems.append("answers were asked for again, and something was cached")


def differing(turns: Sequence[Turn], answers: Sequence[tuple[int, ...]]) -> Iterator[str]:
    for turn, ids in zip(turns, answers, strict=True):
        if turn.ids != ids:
            yield f"{turn.conversation}, turn {turn.number}: not the answer of a cold worker"


def tell(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
