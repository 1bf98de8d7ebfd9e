"""Many requests at once: each client asks again as soon as it has its answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import httpx

from tests.suites.gateway import Gateway
from tests.suites.outcome import Outcome, Verdict, ask
from tests.system.prompts import Prompt

PROGRESS_SECONDS = 10.0
PATIENCE_SECONDS = 300.0


@dataclass(slots=True)
class Tally:
    """What has become of `num_all` requests so far; says so now and then."""

    num_all: int
    counts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    examples: list[str] = field(default_factory=list)
    num_done: int = 0
    _started_at: float = field(default_factory=time.monotonic)
    _said_at: float = 0.0

    def add(self, outcome: Outcome, verdict: Verdict) -> None:
        self.num_done += 1
        self.counts[verdict] += 1
        if verdict is not Verdict.RIGHT:
            self.examples.append(f"{verdict}: {outcome}")
        if time.monotonic() - self._said_at >= PROGRESS_SECONDS or self.num_done == self.num_all:
            self._said_at = time.monotonic()
            sys.stderr.write(f"{self}\n")
            sys.stderr.flush()

    def __str__(self) -> str:
        rate = self.num_done / (time.monotonic() - self._started_at)
        left = (self.num_all - self.num_done) / rate / 60
        counts = ", ".join(
            f"{number} {verdict}" for verdict, number in self.counts.items() if number
        )
        return (
            f"{self.num_done} of {self.num_all}: {counts}; {rate:.1f} a second, {left:.1f} min left"
        )


def ask_all(
    gateway: Gateway,
    prompts: Sequence[Prompt],
    right: Mapping[str, tuple[int, ...]],
    at_once: int,
    tally: Tally,
) -> None:
    """Returns when every one has ended; no connection stays."""
    with (
        httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False) as http,
        ThreadPoolExecutor(at_once) as threads,
    ):
        asked = [
            threads.submit(ask, http, gateway, prompt, stream=number % 2 == 0)
            for number, prompt in enumerate(prompts)
        ]
        try:
            for each in as_completed(asked):
                outcome = each.result()
                tally.add(outcome, outcome.judge(right[outcome.prompt.name]))
        finally:
            threads.shutdown(cancel_futures=True)
