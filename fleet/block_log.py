"""The contract of the log through which workers tell gateways of their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet.block_news import Batch, Snapshot


@dataclass(frozen=True, slots=True)
class Reading:
    """What came after a place in the log, in order, and the place to read on from.

    `has_gap`: something before it has been cut off meanwhile, or the log has been lost. Then
    snapshots are wanted. It is told once: from the new place on, nothing is missing.
    """

    batches: tuple[Batch, ...]
    place: str
    has_gap: bool = False


class BlockLog(Protocol):
    """One log for a fleet, bounded, and beside it one snapshot a worker, under a lease: what a
    worker does with it.

    Every method raises FleetUnavailable within a few seconds when the server does not answer;
    the call may or may not have taken effect, and all can be repeated.
    """

    async def tell(self, batch: Batch) -> None:
        """Put it at the end of the log."""

    async def put(self, snapshot: Snapshot, lease_seconds: float) -> None:
        """In the place of the worker's last one."""

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        """Start the lease of its snapshot anew. False if there is none."""

    async def drop(self, worker: str) -> None:
        """End the lease of its snapshot."""


class FollowedLog(Protocol):
    """The same, as a gateway follows it."""

    async def snapshots(self, workers: Sequence[str]) -> tuple[Snapshot, ...]:
        """Of those of them that have one."""

    async def end(self, seconds_before: float = 0.0) -> str:
        """The place behind everything that is in the log now, but for what was told in the last
        `seconds_before`. The log may have been cut to less.
        """

    async def read(self, place: str, wait_seconds: float) -> Reading:
        """What came after `place`; waits up to `wait_seconds`, 2 at most, if that is nothing."""

    async def lag_seconds(self, place: str) -> float:
        """From what is there at `place` to the last that was told."""
