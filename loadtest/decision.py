"""Hand-off always, never, or as measured, side by side: `python -m loadtest.decision`.

For each scenario, a simulated fleet is started in each of the three modes, gets the same seeded
requests (after some others to warm up and to learn from), and is stopped. `auto` shall be at most
5 % worse than the better one of the other two, in TTFT and in ITL; the exit code is 1 if it is not
in every scenario.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.request import urlopen

from loadtest.replay.errors import ReplayError
from loadtest.replay.options import Fleet, Options, parse
from loadtest.replay.run import at_fleet, run_on
from loadtest.replay.traces import load_trace

MODES = ("always", "never", "auto")
WAYS = ("remote", "local")
SPEED = 8
SLOW = "--sim-args='--bandwidth-gbps 0.04'"
GOALS = {"ttft": 0.5, "itl": 0.05}
# Auto may be so much worse than the better of the others.
TOLERANCE = 1.05
# So many others come first; by their seed, nothing of them is in the measured ones.
NUM_WARM_UP = 50
OTHERS = 1000
PAGE_SECONDS = 10.0
HEADING = (
    "Means of TTFT / ITL, in ms; the better of the two by the product of both.\n\n"
    "| scenario | always | never | auto | auto hands over | better | auto / better | failed |\n"
    "|---|---:|---:|---:|---:|---|---:|---:|\n"
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`trace` as `loadtest.replay` takes it, in simulated seconds; `flags` are the fleet's."""

    name: str
    trace: str
    flags: str = ""


SCENARIOS = (
    Scenario(
        "long prompts, fast link",
        "agents:prompts=1,system=16,requests=50,fresh=2,block=1024,output=48,rate=0.2",
    ),
    Scenario(
        "short prompts, fast link",
        "agents:prompts=1,system=16,requests=160,fresh=1,block=32,output=48,rate=2",
    ),
    Scenario(
        "long prompts, slow link",
        "agents:prompts=1,system=16,requests=50,fresh=2,block=1024,output=48,rate=0.2",
        SLOW,
    ),
    Scenario(
        "short prompts, slow link",
        "agents:prompts=1,system=16,requests=160,fresh=1,block=32,output=48,rate=2",
        SLOW,
    ),
    Scenario(
        "all lengths, fast link",
        "agents:prompts=1,system=16,requests=80,fresh=8,output=48,rate=0.5",
    ),
    Scenario(
        "conversations",
        "multi-turn:sessions=24,turns=6,groups=4,system=512,user=64,answer=48,think=10,rate=0.3",
    ),
    Scenario("long answers", "agents:prompts=1,system=16,requests=60,fresh=8,output=192,rate=0.6"),
    Scenario(
        "as much as prefill workers bear",
        "agents:prompts=1,system=16,requests=100,fresh=8,output=48,rate=1",
    ),
    Scenario(
        "more than prefill workers bear",
        "agents:prompts=1,system=16,requests=120,fresh=8,output=24,rate=3",
    ),
)

NAMES = "; ".join(each.name for each in SCENARIOS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Means, in milliseconds of real time. `handed_share`: of the requests that could go either
    way, those whose prompt a prefill worker computed.
    """

    ttft: float
    itl: float
    num_failed: int
    handed_share: float

    @property
    def cost(self) -> float:
        """By which one of two is better."""
        return self.ttft * self.itl


def main(words: Sequence[str] | None = None) -> int:
    given = parser().parse_args(words)
    chosen = [each for each in SCENARIOS if not given.only or given.only in each.name]
    if not chosen:
        sys.stderr.write(f"error: no scenario has {given.only!r} in its name; there are {NAMES}\n")
        return 2
    results: dict[str, dict[str, Outcome]] = {}
    sys.stdout.write(HEADING)
    try:
        for scenario in chosen:
            results[scenario.name] = run_scenario(scenario, given.rounds)
            sys.stdout.write(line_of(scenario.name, results[scenario.name]))
            sys.stdout.flush()
    except (ReplayError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if given.json:
        given.json.write_text(json.dumps(as_json(results), indent=2) + "\n")
    return 0 if all(map(is_close, results.values())) else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m loadtest.decision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", metavar="WORDS", help=f"scenarios with these words: {NAMES}")
    made.add_argument(
        "--rounds",
        type=int,
        choices=range(1, 21),
        default=1,
        metavar="N",
        help="of each scenario, with other requests, 1 to 20 (default: 1); one of all takes some "
        "25 minutes",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="save the figures")
    return made


def run_scenario(scenario: Scenario, rounds: int) -> dict[str, Outcome]:
    """The modes by turns. Raises ReplayError, OSError."""
    seen: dict[str, list[Outcome]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        for mode in MODES:
            sys.stderr.write(f"{scenario.name}: {mode}\n")
            seen[mode].append(run_mode(scenario, mode, seed=number))
    return {
        mode: Outcome(
            mean(each.ttft for each in outcomes),
            mean(each.itl for each in outcomes),
            sum(each.num_failed for each in outcomes),
            mean(each.handed_share for each in outcomes),
        )
        for mode, outcomes in seen.items()
    }


def run_mode(scenario: Scenario, mode: str, seed: int) -> Outcome:
    options = options_of(scenario, mode, seed)
    with at_fleet(options.fleets[0], options) as url:
        fleet = Fleet(mode, url, ())
        others = replace(options, seed=seed + OTHERS)
        run_on(fleet, others, load_trace(scenario.trace, others.seed)[:NUM_WARM_UP])
        before = by_way(url)
        figures = run_on(fleet, options, load_trace(scenario.trace, seed)).figures
        went = by_way(url) - before
    if figures.ttft is None or figures.itl is None:
        raise ReplayError(f"no request of {scenario.name!r} was answered with {mode}")
    failed = figures.num_requests - figures.num_done
    handed_share = went["remote"] / max(1, went.total())
    return Outcome(1000 * figures.ttft.mean, 1000 * figures.itl.mean, failed, handed_share)


def by_way(url: str) -> Counter[str]:
    """Prompts by who computed them, as the gateway counts. Raises OSError."""
    with urlopen(f"{url}/fleet/decision", timeout=PAGE_SECONDS) as answer:
        sizes = json.load(answer)["by_uncached_tokens"].values()
    return Counter({way: sum(size[way]["num_requests"] for size in sizes) for way in WAYS})


def options_of(scenario: Scenario, mode: str, seed: int) -> Options:
    goals = f"--ttft-goal-seconds {GOALS['ttft']} --itl-goal-seconds {GOALS['itl']}"
    flags = f"--prefill 2 --decode 2 --sim-speed {SPEED} --disaggregation {mode} {goals}"
    words = ["--fleet-args", f"{flags} {scenario.flags}", "--speed", str(SPEED)]
    return parse([scenario.trace, *words, "--seed", str(seed)])


def line_of(name: str, outcomes: Mapping[str, Outcome]) -> str:
    better = better_of(outcomes)
    auto, best = outcomes["auto"], outcomes[better]
    each = (outcomes[mode] for mode in MODES)
    times = " | ".join(f"{one.ttft:.0f} / {one.itl:.1f}" for one in each)
    ratios = f"{auto.ttft / best.ttft:.2f} / {auto.itl / best.itl:.2f}"
    failed = sum(one.num_failed for one in outcomes.values())
    return (
        f"| {name} | {times} | {100 * auto.handed_share:.0f} % | {better} | {ratios} | {failed} |\n"
    )


def better_of(outcomes: Mapping[str, Outcome]) -> str:
    return min(("always", "never"), key=lambda mode: outcomes[mode].cost)


def is_close(outcomes: Mapping[str, Outcome]) -> bool:
    best, auto = outcomes[better_of(outcomes)], outcomes["auto"]
    return auto.ttft <= TOLERANCE * best.ttft and auto.itl <= TOLERANCE * best.itl


def as_json(results: Mapping[str, Mapping[str, Outcome]]) -> dict[str, Any]:
    return {
        name: {
            mode: {
                "ttft_ms": each.ttft,
                "itl_ms": each.itl,
                "num_failed": each.num_failed,
                "handed_share": each.handed_share,
            }
            for mode, each in outcomes.items()
        }
        for name, outcomes in results.items()
    }


if __name__ == "__main__":
    sys.exit(main())
