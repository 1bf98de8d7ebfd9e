"""Messages under way: the operation, its buffer, and the link it uses."""

from __future__ import annotations

from dataclasses import dataclass

from kvtransfer.sends import Parcel
from kvtransfer.staging import Slot
from kvtransfer.transport import Link, Operation


@dataclass(frozen=True, slots=True)
class Flight:
    """`link` is None for what comes to the transport's own inbox; the sender of a segment
    knows which `parcel` it is.
    """

    operation: Operation
    buffer: Slot
    num_bytes: int
    link: Link | None
    started_at: float
    parcel: Parcel | None = None


class Flights:
    """What is under way in one direction."""

    def __init__(self) -> None:
        self._flights: list[Flight] = []
        self._bad: set[Link] = set()
        self._live: set[Link] = set()

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        self._flights.append(flight)

    def num_on(self, link: Link) -> int:
        return sum(flight.link is link for flight in self._flights)

    def take_done(self) -> list[Flight]:
        """In the order in which they were added."""
        done: list[Flight] = []
        under_way: list[Flight] = []
        for flight in self._flights:
            (done if flight.operation.is_done else under_way).append(flight)
        self._flights = under_way
        for flight in done:
            if not flight.operation.is_ok:
                self.blame(flight.link)
            elif flight.link is not None:
                self._live.add(flight.link)
        return done

    def blame(self, link: Link | None) -> None:
        """Something of this link has been lost."""
        if link is not None:
            self._bad.add(link)

    def take_bad_links(self, before: float) -> set[Link]:
        """The links that something has been lost on since the last call, and those of what
        started before then and is not done.
        """
        bad, self._bad = self._bad, set()
        late = (flight for flight in self._flights if flight.started_at < before)
        stuck = (flight.link for flight in late if not flight.operation.is_done)
        return bad | {link for link in stuck if link is not None}

    def take_live_links(self) -> set[Link]:
        """The links that something has made its way on since the last call."""
        live, self._live = self._live, set()
        return live
