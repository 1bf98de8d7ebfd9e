"""Demands that have come before their requests. Pure and synchronous."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvtransfer.causes import Cause
from kvtransfer.errors import DemandRefused
from kvtransfer.messages import Demand

MAX_PARKED = 4096


@dataclass(slots=True)
class Parked:
    """Those of one ticket; `deadline` is that of the one that waits longest."""

    demands: list[Demand]
    deadline: float


class Parking:
    """The demands of a ticket wait together, for the longest of their leases at most."""

    def __init__(self) -> None:
        self._parked: dict[bytes, Parked] = {}
        self._number = 0

    def __contains__(self, ticket: bytes) -> bool:
        return ticket in self._parked

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._parked))

    def __len__(self) -> int:
        return len(self._parked)

    def of(self, ticket: bytes) -> list[Demand]:
        parked = self._parked.get(ticket)
        return parked.demands if parked else []

    def park(self, demand: Demand, now: float) -> None:
        """Raises DemandRefused where there is no room, or where its rank has asked already."""
        if self._number >= MAX_PARKED:
            raise DemandRefused(Cause.CROWDED, f"{MAX_PARKED} demands wait for their requests")
        if any(each.rank == demand.rank for each in self.of(demand.ticket)):
            raise DemandRefused(Cause.USED, f"rank {demand.rank} has asked already")
        parked = self._parked.setdefault(demand.ticket, Parked([], now))
        parked.demands.append(demand)
        parked.deadline = max(parked.deadline, now + demand.lease_seconds)
        self._number += 1

    def take(self, ticket: bytes) -> list[Demand]:
        """They wait no more."""
        parked = self._parked.pop(ticket, None)
        demands = parked.demands if parked else []
        self._number -= len(demands)
        return demands

    def expired(self, now: float) -> list[bytes]:
        """Tickets whose request has not come in time."""
        return [ticket for ticket, parked in self._parked.items() if parked.deadline <= now]

    def next_deadline(self) -> float | None:
        return min((parked.deadline for parked in self._parked.values()), default=None)

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        assert self._number == sum(len(p.demands) for p in self._parked.values()), repr(self)

    def __repr__(self) -> str:
        return f"<Parking {self._number} demands of {len(self._parked)} tickets>"
