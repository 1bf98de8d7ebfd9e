"""Segments under way: the operation, and the staging slot that it uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvtransfer.segment import Segment
from kvtransfer.staging import Slot
from kvtransfer.transport import Operation


@dataclass(frozen=True, slots=True)
class Flight:
    """`peer` is the other side's sender id; `segment` is known to the sender only."""

    operation: Operation
    slot: Slot
    num_bytes: int
    peer: int
    started_at: float
    segment: Segment | None = None


class Flights:
    """The segments under way in one direction."""

    def __init__(self) -> None:
        self._flights: list[Flight] = []

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        self._flights.append(flight)

    def take_done(self) -> list[Flight]:
        done = [flight for flight in self._flights if flight.operation.is_done]
        if done:
            self._flights = [flight for flight in self._flights if not flight.operation.is_done]
        return done

    def stalled(self, before: float) -> Iterator[int]:
        """The peers of flights that started before then."""
        return (flight.peer for flight in self._flights if flight.started_at < before)
