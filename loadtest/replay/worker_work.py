"""What each worker did during a replay: its counters on /fleet/workers, after less before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What an engine's step may compute.
STEPS = ("prefill", "decode", "mixed")

PREFILL = "prefill"

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class WorkerWork:
    """None: the worker does not tell."""

    worker_id: str
    role: str
    num_kv_blocks: int
    block_tokens: int | None
    num_cached_tokens: float | None
    num_computed_tokens: float | None
    busy_seconds: float | None


def work_between(before: Rows, after: Rows) -> list[WorkerWork]:
    """A worker that has started anew in between counts from zero."""
    was = {(row["worker_id"], row.get("incarnation")): row.get("load", {}) for row in before}
    return [work_of(row, was.get((row["worker_id"], row.get("incarnation")), {})) for row in after]


def work_of(row: Mapping[str, Any], before: Mapping[str, Any]) -> WorkerWork:
    load = row.get("load", {})
    now, then = counters_of(load), counters_of(before)

    def grown(name: str) -> float | None:
        return None if now.get(name) is None else now[name] - (then.get(name) or 0)

    return WorkerWork(
        worker_id=row["worker_id"],
        role=row.get("role", ""),
        num_kv_blocks=load.get("num_kv_blocks") or 0,
        block_tokens=load.get("block_size") or row.get("block_size"),
        num_cached_tokens=grown("num_cached_tokens"),
        num_computed_tokens=grown("num_computed_tokens"),
        busy_seconds=grown("busy_seconds"),
    )


def counters_of(load: Mapping[str, Any]) -> Mapping[str, Any]:
    """A load says them itself, or by kinds of steps in `work`."""
    work = load.get("work")
    if work is None:
        return load
    return {
        "num_cached_tokens": work["cached_tokens"],
        "num_computed_tokens": work["prefill_tokens"] + work["mixed_prefill_tokens"],
        "busy_seconds": sum(work[f"{kind}_seconds"] for kind in STEPS),
    }


def that_compute_prompts(work: Sequence[WorkerWork]) -> Sequence[WorkerWork]:
    """The prefill workers; all, if there are none."""
    return [each for each in work if PREFILL in each.role] or work


def has_prefill(work: Sequence[WorkerWork]) -> bool:
    return any(PREFILL in each.role for each in work)


def counted_share(work: Sequence[WorkerWork]) -> float | None:
    """Of the prompt tokens that the workers met, what their prefix caches held."""
    told = [
        (each.num_cached_tokens, each.num_computed_tokens)
        for each in that_compute_prompts(work)
        if each.num_cached_tokens is not None and each.num_computed_tokens is not None
    ]
    total = sum(cached + computed for cached, computed in told)
    return sum(cached for cached, _ in told) / total if total else None


def num_computed_tokens(work: Sequence[WorkerWork]) -> float | None:
    """Of prompts, by all workers; None if one of them does not tell."""
    told = [each.num_computed_tokens for each in work if each.num_computed_tokens is not None]
    return sum(told) if told and len(told) == len(work) else None


def load_spreads(work: Sequence[WorkerWork]) -> Mapping[str, float]:
    """By role: the busiest worker's seconds over the mean, 1 if all did the same."""
    by_role: dict[str, list[float]] = {}
    for each in work:
        if each.busy_seconds is not None:
            by_role.setdefault(each.role, []).append(each.busy_seconds)
    return {role: max(busy) * len(busy) / sum(busy) for role, busy in by_role.items() if sum(busy)}
