"""A fleet at several moments of a soak, each time idle: what has grown, and what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from baton.table import render
from tests.suites.gateway import Gateway
from tests.suites.levels import Level, levels
from tests.system.fleet_report import FleetReport, Transfers
from tests.system.waiting import wait_until

GROWTH_LIMIT = 0.02
SETTLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """After `num_done` requests."""

    num_done: int
    levels: Mapping[str, Level]
    report: FleetReport

    @classmethod
    def take(cls, gateway: Gateway, pids: Mapping[str, int], num_done: int) -> Checkpoint:
        """Raises AssertionError if the fleet still holds something."""
        wait_until(lambda: not gateway.report().holds, SETTLE_SECONDS, lambda: "blocks are held")
        return cls(num_done, levels(pids), gateway.report())

    @property
    def loads(self) -> Transfers:
        return self.report.decode.load.transfers


def table(checkpoints: Sequence[Checkpoint]) -> str:
    """A line for each process."""
    first, last = checkpoints[0], checkpoints[-1]
    heading = ("process", *(f"after {each.num_done:,}" for each in checkpoints))
    asked = max(1, last.num_done - first.num_done)
    rows = [
        (
            name,
            *(megabytes(each.levels.get(name)) for each in checkpoints),
            f"{growth(before.rss_bytes, last.levels[name].rss_bytes):+.2%}",
            f"{growth(before.anonymous_bytes, last.levels[name].anonymous_bytes):+.2%}",
            f"{(last.levels[name].rss_bytes - before.rss_bytes) / 1e3 / asked:+.1f} KB",
            *(str(count) for count in last.levels[name].handles.values()),
        )
        for name, before in first.levels.items()
        if name in last.levels
    ]
    more = ("growth", "without files", "a request", *next(iter(first.levels.values())).handles)
    return "\n".join((*render((*heading, *more), rows), ""))


def megabytes(level: Level | None) -> str:
    return f"{level.rss_bytes / 1e6:.1f} MB" if level else "-"


def growth(before: float, after: float) -> float:
    return after / before - 1


def problems(checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    """What is not as it was at the first of them."""
    first, last = checkpoints[0], checkpoints[-1]
    asked = last.num_done - first.num_done
    moved = last.loads.loads_completed - first.loads.loads_completed
    if moved != asked or last.loads.loads_failed:
        yield f"of {asked} prompts {moved} were moved; {last.loads.loads_failed} loads failed"
    if first.levels.keys() != last.levels.keys():
        yield f"processes: {sorted(first.levels)} became {sorted(last.levels)}"
    for name in first.levels.keys() & last.levels.keys():
        yield from changed(name, first.levels[name], last.levels[name])


def changed(name: str, before: Level, after: Level) -> Iterator[str]:
    """Memory beyond the limit, either way, and handles that there were not before."""
    for kind, old, new in (
        ("memory", before.rss_bytes, after.rss_bytes),
        ("memory without files", before.anonymous_bytes, after.anonymous_bytes),
    ):
        if abs(growth(old, new)) > GROWTH_LIMIT:
            yield f"{name}: {kind} {old / 1e6:.1f} MB became {new / 1e6:.1f} MB"
    for kind, count in after.handles.items():
        if count > before.handles[kind]:
            yield f"{name}: {before.handles[kind]} {kind} became {count}"
