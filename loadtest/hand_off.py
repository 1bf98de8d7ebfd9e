"""One hand-off from prefill to decode, measured from outside."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadtest.endpoint import BadAnswer, Endpoint

NUM_TOKENS = 8
# Ordinary tokens in about every vocabulary; the first are often special.
TOKEN_IDS = range(1_000, 20_000)
SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HandOff:
    """prefill: from the request's arrival at the gateway until its prefill leg had ended.
    first_token: TTFT, at the client. step: from token to token.
    load: from the decode worker's asking for the KV until it had all of it; most of that time
    it waits for the prefill. tail: from the last layer computed to the last byte sent.
    """

    num_tokens: int
    prefill_seconds: float
    first_token_seconds: float
    step_seconds: float
    moved_bytes: int
    load_seconds: float
    tail_seconds: float

    @property
    def exposed_seconds(self) -> float:
        """What the transfer adds to a first token."""
        return self.first_token_seconds - self.prefill_seconds - self.step_seconds

    @property
    def exposed_share(self) -> float:
        """Of the prefill."""
        return self.exposed_seconds / self.prefill_seconds

    @property
    def bytes_per_second(self) -> float:
        return self.moved_bytes / self.load_seconds if self.load_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the fleet has done since it started."""

    num_prefills: float
    prefill_seconds: float
    moved_bytes: int
    num_loads: int
    load_seconds: float
    num_sends: int
    tail_seconds: float

    @classmethod
    def read(cls, endpoint: Endpoint) -> Totals:
        metrics = endpoint.metrics()
        moved = [worker["load"]["transfers"] for worker in endpoint.workers()]

        def total(name: str) -> Any:
            return sum(each[name] for each in moved)

        return cls(
            num_prefills=metrics.get('baton_stage_seconds_count{stage="prefill"}', 0.0),
            prefill_seconds=metrics.get('baton_stage_seconds_sum{stage="prefill"}', 0.0),
            moved_bytes=total("received_bytes"),
            num_loads=total("loads_completed"),
            load_seconds=total("load_seconds"),
            num_sends=total("sends_completed"),
            tail_seconds=total("exposed_seconds"),
        )


def measure(endpoint: Endpoint, model: str, num_tokens: int) -> HandOff:
    """Sends a prompt that nobody has seen. The fleet must be otherwise idle.

    Raises BadAnswer, also if the prompt was not handed off.
    """
    body = {
        "model": model,
        "prompt": random.SystemRandom().choices(TOKEN_IDS, k=num_tokens),
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
    }
    before = Totals.read(endpoint)
    stream = endpoint.stream(body)
    after = settled(endpoint, before)
    return HandOff(
        num_tokens,
        after.prefill_seconds - before.prefill_seconds,
        stream.first_seconds,
        median(stream.gaps),
        after.moved_bytes - before.moved_bytes,
        after.load_seconds - before.load_seconds,
        after.tail_seconds - before.tail_seconds,
    )


def settled(endpoint: Endpoint, before: Totals) -> Totals:
    """The totals once this one hand-off is in all of them."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = Totals.read(endpoint)
        steps = (
            now.num_prefills - before.num_prefills,
            now.num_loads - before.num_loads,
            now.num_sends - before.num_sends,
        )
        if all(step == 1 for step in steps):
            return now
        if time.monotonic() > deadline:
            raise BadAnswer(
                "not one hand-off but (prefills, loads, sends) = "
                f"{tuple(map(int, steps))}: is the fleet in use, has it no prefill worker, or does "
                "it decide for itself? (--disaggregation always)"
            )
        time.sleep(0.02)


def medians(samples: Sequence[HandOff]) -> Mapping[str, float]:
    """Of each quantity, in the units of the table."""
    quantities = {
        "prefill_ms": [1e3 * each.prefill_seconds for each in samples],
        "ttft_ms": [1e3 * each.first_token_seconds for each in samples],
        "step_ms": [1e3 * each.step_seconds for each in samples],
        "exposed_ms": [1e3 * each.exposed_seconds for each in samples],
        "exposed_percent": [100 * each.exposed_share for each in samples],
        "tail_ms": [1e3 * each.tail_seconds for each in samples],
        "moved_mb": [each.moved_bytes / 1e6 for each in samples],
        "load_ms": [1e3 * each.load_seconds for each in samples],
        "gb_per_s": [each.bytes_per_second / 1e9 for each in samples],
    }
    return {name: median(values) for name, values in quantities.items()}
