"""What one engine rank has moved. The names are those of `Transfers` in worker.proto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Transfers:
    """Gauges first, then totals since the start. Bytes are KV payload, without headers.

    Each rank counts for itself: a ticket that concerns two ranks is two sends or loads.
    `failures` counts the tickets that ended without use, by "send_" or "load_" and the Cause,
    and the demands that were not met, by "demand_" and the Cause.
    """

    open_sends: int = 0
    open_loads: int = 0
    held_bytes: int = 0  # of the paged cache, by open sends
    awaited_bytes: int = 0  # into the paged cache, by open loads
    staging_bytes: int = 0
    links: int = 0
    failed_threads: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    sent_segments: int = 0
    received_segments: int = 0
    sends_completed: int = 0
    sends_failed: int = 0
    loads_completed: int = 0
    loads_failed: int = 0
    late_segments: int = 0
    rejected_messages: int = 0
    load_seconds: float = 0.0
    exposed_seconds: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)


NUMBERS = tuple(each.name for each in fields(Transfers) if each.name != "failures")


def total(ranks: Iterable[Mapping[str, Any]]) -> Transfers:
    """The sum over ranks, of the fields as `asdict` gives them; what is missing counts as 0."""
    sums: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for rank in ranks:
        sums.update({name: rank.get(name, 0) for name in NUMBERS})
        failures.update(rank.get("failures", {}))
    return Transfers(failures=dict(failures), **sums)
