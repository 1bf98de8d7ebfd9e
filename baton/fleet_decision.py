"""`baton fleet decision`: whether hand-off pays, and what each worker and pair can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from baton.console import Console
from baton.figures import UNKNOWN, count, difference, percent, span
from baton.gateway_page import fetch, names_of, read
from baton.status import size
from baton.table import render

WAYS = ("uncached tokens", "way", "usual", "requests", "TTFT", "ITL", "later than predicted")
WORKERS = (
    *("worker", "prefill", "a step", "decode step", "a sequence"),
    *("stall a token", "waiting", "KV free"),
)
PAIRS = ("from", "to", "bandwidth")


@dataclass(frozen=True, slots=True)
class Seen:
    """Of prompts of one size that went one way. `is_usual`: they go it unless the other costs
    much less.
    """

    is_usual: bool = False
    num_requests: int = 0
    ttft_seconds: float | None = None
    itl_seconds: float | None = None
    later_than_predicted_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """What its steps take: so long each, and so long for each prompt token or sequence."""

    prefill_tokens_per_second: float | None = None
    prefill_step_seconds: float | None = None
    decode_step_seconds: float | None = None
    decode_sequence_seconds: float | None = None
    stall_seconds_per_token: float | None = None
    num_waiting: int = 0
    kv_free_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    source: str
    target: str
    bytes_per_second: float | None = None  # the link was never the limit


@dataclass(frozen=True, slots=True)
class Decision:
    disaggregation: str
    control_share: float = 0.0
    ttft_goal_seconds: float | None = None
    itl_goal_seconds: float | None = None
    ttft_gain_seconds: float | None = None
    by_uncached_tokens: dict[str, dict[str, Seen]] = field(default_factory=dict)
    num_waiting: int = 0
    workers: dict[str, Worker] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()


def fetch_decision(gateway: str) -> Any:
    """Raises NoAnswer."""
    return fetch(gateway, "/fleet/decision")


def show_decision(page: Any, console: Console) -> int:
    """0. Raises NoAnswer."""
    for line in lines(read(page, Decision)):
        console.line(line)
    return 0


def lines(decision: Decision) -> Iterator[str]:
    yield (
        f"Disaggregation {decision.disaggregation}{control(decision)}; "
        f"goals: TTFT {span(decision.ttft_goal_seconds)}, ITL {span(decision.itl_goal_seconds)}; "
        f"{count(decision.num_waiting)} waiting"
    )
    yield gain(decision.ttft_gain_seconds)
    names = names_of(decision.workers)
    rows = [
        way_row(size_words, way, seen)
        for size_words, ways in decision.by_uncached_tokens.items()
        for way, seen in ways.items()
        if seen.num_requests or seen.is_usual
    ]
    tables = (
        (WAYS, rows),
        (WORKERS, [worker_row(names[key], each) for key, each in sorted(decision.workers.items())]),
        (PAIRS, [pair_row(names, each) for each in decision.pairs]),
    )
    for heading, cells in tables:
        if cells:
            yield ""
            yield from render(heading, cells)


def control(decision: Decision) -> str:
    is_auto = decision.disaggregation == "auto"
    return f", {percent(decision.control_share)} for control" if is_auto else ""


def gain(seconds: float | None) -> str:
    if seconds is None:
        return "Whether hand-off pays is not known: too few requests went the other way for control"
    verb = "saves" if seconds >= 0 else "costs"
    return f"Hand-off {verb} {span(abs(seconds))} of TTFT a request"


def way_row(size_words: str, way: str, seen: Seen) -> tuple[str, ...]:
    return (
        f"up to {count(float(size_words))}",
        way,
        "yes" if seen.is_usual else UNKNOWN,
        count(seen.num_requests),
        span(seen.ttft_seconds),
        span(seen.itl_seconds),
        difference(seen.later_than_predicted_seconds),
    )


def worker_row(name: str, worker: Worker) -> tuple[str, ...]:
    rate = worker.prefill_tokens_per_second
    free = worker.kv_free_tokens
    return (
        name,
        UNKNOWN if rate is None else f"{count(rate)} tokens/s",
        span(worker.prefill_step_seconds),
        span(worker.decode_step_seconds),
        span(worker.decode_sequence_seconds),
        span(worker.stall_seconds_per_token),
        count(worker.num_waiting),
        UNKNOWN if free is None else f"{count(free)} tokens",
    )


def pair_row(names: dict[str, str], pair: Pair) -> tuple[str, ...]:
    source, target = (names.get(key, key) for key in (pair.source, pair.target))
    speed = pair.bytes_per_second
    return (source, target, "not the limit" if speed is None else f"{size(speed)}/s")
