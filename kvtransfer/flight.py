"""Messages under way: the operation, its buffer, and the link it uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvtransfer.segment import Segment
from kvtransfer.staging import Slot
from kvtransfer.transport import Link, Operation


@dataclass(frozen=True, slots=True)
class Flight:
    """`link` is None for what comes to the transport's own inbox; the sender of a segment
    knows which `segment` it is.
    """

    operation: Operation
    buffer: Slot
    num_bytes: int
    link: Link | None
    started_at: float
    segment: Segment | None = None


class Flights:
    """What is under way in one direction."""

    def __init__(self) -> None:
        self._flights: list[Flight] = []

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        self._flights.append(flight)

    def take_done(self) -> list[Flight]:
        """In the order in which they were added."""
        done: list[Flight] = []
        under_way: list[Flight] = []
        for flight in self._flights:
            (done if flight.operation.is_done else under_way).append(flight)
        self._flights = under_way
        return done

    def stalled(self, before: float) -> Iterator[Link]:
        """The links of what started before then and is not done."""
        for flight in self._flights:
            if flight.started_at < before and flight.link is not None:
                yield flight.link
