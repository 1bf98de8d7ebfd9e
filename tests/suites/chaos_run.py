"""One fault done to a fleet with requests under way, and what must hold afterwards."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import httpx

from tests.suites.faults import Fault
from tests.suites.outcome import Outcome, Verdict, ask
from tests.suites.scene import TIMEOUTS, Scene, handles, wait_until_whole
from tests.system.prompts import Prompt
from tests.system.waiting import wait_until

# What the gateway's timeouts add up to, and what ends a request that outlasts them.
LIMIT_SECONDS = float(sum(TIMEOUTS.values()))
PATIENCE_SECONDS = LIMIT_SECONDS + 30.0
# A ticket's lease, and some.
FREE_SECONDS = TIMEOUTS["prefill"] + 15.0
HANDLE_SECONDS = 15.0
# Tokens a second of a prompt, roughly: for how long the requests will be under way.
PACE = 400.0
NUM_WARM_UPS = 3

Right = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Run:
    """`moment`: of the fault, in seconds after the requests. `freed`: when nothing was held any
    more, in seconds after the last answer and the fault's end.
    """

    number: int
    fault: str
    moment_seconds: float
    verdicts: Mapping[Verdict, int]
    longest_seconds: float
    freed_seconds: float
    errors: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items())
        said = "".join(f"; {error}" for error in self.errors)
        return (
            f"run {self.number:>2}, {self.fault} at {self.moment_seconds:.1f} s: {verdicts}; "
            f"longest {self.longest_seconds:.1f} s, free after {self.freed_seconds:.1f} s{said}"
        )


class Experiment:
    """A fleet, the prompts that it is asked, and what its processes have open when idle."""

    def __init__(self, scene: Scene, prompts: Sequence[Prompt], right: Right) -> None:
        """Makes every connection that there will be."""
        self._scene = scene
        self._prompts = prompts
        self._right = right
        self._num_asked = 0
        for _ in range(NUM_WARM_UPS):
            self._ask(random.Random(0), 4, lambda: None)
        wait_until(self._is_free, FREE_SECONDS, self._held)
        self._baseline = handles(scene)

    def run(self, number: int, fault: Fault, dice: random.Random) -> Run:
        self._set_flags(fault.flags)
        moment = dice.uniform(0, fault.num_requests * self._mean_tokens() / PACE)

        def strike() -> None:
            time.sleep(moment)
            fault.act(self._scene, dice)

        before = self._failed_loads()
        outcomes = self._ask(dice, fault.num_requests, strike)
        wait_until_whole(self._scene)
        freed = self._seconds_until_free()
        problems = list(self._wrong(outcomes, allows_errors=fault.allows_errors))
        if fault.spoils and self._failed_loads() < before + fault.num_requests:
            problems.append("spoilt KV was taken")
        problems += self._left()
        self._set_flags({role: {} for role in fault.flags})
        problems += self._following(dice)
        return Run(
            number,
            fault.name,
            moment,
            Counter(each.judge(self._right[each.prompt.name]) for each in outcomes),
            max(each.seconds for each in outcomes),
            freed,
            tuple(sorted({each.error for each in outcomes if each.error})),
            tuple(problems),
        )

    def _set_flags(self, flags: Mapping[str, Mapping[str, object]]) -> None:
        for role, more in flags.items():
            self._scene.restart(role, more)
        wait_until_whole(self._scene)

    def _ask(
        self, dice: random.Random, number: int, strike: Callable[[], None]
    ) -> Sequence[Outcome]:
        """`strike` runs in this thread meanwhile."""
        gateway = self._scene.gateway
        asked = [(self._next(dice), dice.random() < 0.5) for _ in range(number)]
        with (
            httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False) as http,
            ThreadPoolExecutor(number) as threads,
        ):
            answers = [
                threads.submit(ask, http, gateway, prompt, stream=stream)
                for prompt, stream in asked
            ]
            try:
                strike()
                return [each.result() for each in answers]
            except BaseException:
                self._scene.close()  # which ends what is under way
                raise

    def _next(self, dice: random.Random) -> Prompt:
        """One whose KV nobody has."""
        self._num_asked += 1
        return replace(dice.choice(self._prompts), salt=f"chaos-{self._num_asked}")

    def _mean_tokens(self) -> float:
        return sum(len(prompt.ids) for prompt in self._prompts) / len(self._prompts)

    def _wrong(self, outcomes: Sequence[Outcome], *, allows_errors: bool) -> Iterator[str]:
        for outcome in outcomes:
            right = self._right[outcome.prompt.name]
            if problem := outcome.problem(right, LIMIT_SECONDS, allows_errors=allows_errors):
                yield problem

    def _seconds_until_free(self) -> float:
        """Infinite if that is too long."""
        try:
            return wait_until(self._is_free, FREE_SECONDS)
        except AssertionError:
            return float("inf")

    def _left(self) -> Iterator[str]:
        """What is held, or open, that was not before any fault."""
        if not self._is_free():
            yield self._held()
        try:
            wait_until(lambda: not self._extra_handles(), HANDLE_SECONDS)
        except AssertionError:
            yield from self._extra_handles()

    def _following(self, dice: random.Random) -> Iterator[str]:
        """A request after all is over is handed off, and right."""
        before = self._scene.gateway.report().decode.load.transfers
        (outcome,) = self._ask(dice, 1, lambda: None)
        after = self._scene.gateway.report().decode.load.transfers
        for problem in self._wrong([outcome], allows_errors=False):
            yield f"afterwards {problem}"
        if after.loads_completed != before.loads_completed + 1:
            yield "afterwards a prompt was computed again, not handed off"

    def _failed_loads(self) -> int:
        return self._scene.gateway.report().decode.load.transfers.loads_failed

    def _is_free(self) -> bool:
        return not self._scene.gateway.report().holds

    def _held(self) -> str:
        return f"still held: {self._scene.gateway.report().holds}"

    def _extra_handles(self) -> list[str]:
        now = handles(self._scene)
        return [
            f"{name}: {self._baseline[name].handles[kind]} {kind} became {count}"
            for name in now.keys() & self._baseline.keys()
            for kind, count in now[name].handles.items()
            if count > self._baseline[name].handles[kind]
        ] + [f"{name} is one more process" for name in now.keys() - self._baseline.keys()]
