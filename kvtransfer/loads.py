"""The decode side's ledger: every ticket that this rank waits for. Pure and synchronous."""

from __future__ import annotations

from collections import Counter, OrderedDict

from kvtransfer.causes import Cause
from kvtransfer.incoming import Incoming, LoadOrder, Place
from kvtransfer.segment import Segment
from proto.layout import KvLayout

MAX_SPENT = 16384


class LoadLedger:
    """Opens, fills and closes loads. A load ends exactly once: completed, failed or cancelled.

    A ticket is used once: one that has ended, or was failed before its load was opened, fails
    the load that shows it again.

    `completed`, `failed` and `cancelled` collect request ids for the engine: the first may
    run, the second must recompute, the third may have their blocks freed. `failures` counts
    the causes of the second.
    """

    def __init__(self, layout: KvLayout, rank: int = 0) -> None:
        self.layout = layout
        self.rank = rank
        self.shard = layout.shard(rank)
        self.num_completed = 0
        self.num_late_segments = 0
        self.failures: Counter[Cause] = Counter()
        self.received_bytes = 0
        self.received_segments = 0
        self.load_seconds = 0.0
        self.completed: list[str] = []
        self.failed: list[str] = []
        self.cancelled: list[str] = []
        self._open: dict[bytes, Incoming] = {}
        self._by_request: dict[str, bytes] = {}
        self._spent: OrderedDict[bytes, Cause] = OrderedDict()

    @property
    def num_open(self) -> int:
        return len(self._open)

    @property
    def num_failed(self) -> int:
        return self.failures.total()

    @property
    def awaited_bytes(self) -> int:
        """Of the paged cache, in all open loads."""
        return sum(self.awaited().values())

    def awaited(self) -> dict[bytes, int]:
        """Bytes of the paged cache, by open ticket."""
        return {ticket: load.awaited_bytes for ticket, load in self._open.items()}

    def open(self, order: LoadOrder, now: float) -> bool:
        """False if the load has failed at once, because its ticket is in use or spent."""
        if order.ticket in self._open or order.ticket in self._spent:
            self.failed.append(order.request_id)
            self.failures[self._spent.get(order.ticket, Cause.USED)] += 1
            return False
        deadline = now + order.lease_seconds
        self._open[order.ticket] = Incoming(order, self.layout, self.shard, now, deadline)
        self._by_request[order.request_id] = order.ticket
        return True

    def is_open(self, ticket: bytes) -> bool:
        return ticket in self._open

    def is_load(self, ticket: bytes, load: bytes) -> bool:
        """Whether this load, and no other of the ticket, is open."""
        return ticket in self._open and self._open[ticket].order.load == load

    def place_of(self, segment: Segment) -> Place | None:
        """Where `segment` belongs; None if nobody waits for it (counted as late).

        Raises MalformedMessage if it contradicts its order.
        """
        load = self._open.get(segment.ticket)
        if load is None:
            self.num_late_segments += 1
            return None
        return load.place_of(segment)

    def landed(self, segment: Segment, now: float) -> None:
        """`segment` is in the paged cache."""
        load = self._open[segment.ticket]
        load.landed(segment)
        load.deadline = now + load.order.lease_seconds
        self.received_bytes += segment.payload_bytes
        self.received_segments += 1
        if load.is_complete:
            self.num_completed += 1
            self.load_seconds += now - load.opened_at
            self.completed.append(self._close(segment.ticket, Cause.USED).request_id)

    def fail(self, ticket: bytes, cause: Cause) -> LoadOrder | None:
        """The KV will not come: the engine recomputes. None if the load is not open."""
        if ticket not in self._open:
            self._spend(ticket, cause)
            return None
        self.failures[cause] += 1
        order = self._close(ticket, cause)
        self.failed.append(order.request_id)
        return order

    def cancel(self, request_id: str) -> LoadOrder | None:
        """The engine wants it no more. None if it has ended already."""
        ticket = self._by_request.get(request_id)
        if ticket is None:
            return None
        self.cancelled.append(request_id)
        return self._close(ticket, Cause.CANCELLED)

    def close(self, cause: Cause) -> None:
        """Fails everything."""
        for ticket in list(self._open):
            self.fail(ticket, cause)

    def expired(self, now: float) -> list[bytes]:
        """Tickets that nothing has landed for during their lease."""
        return [ticket for ticket, load in self._open.items() if load.deadline <= now]

    def next_deadline(self) -> float | None:
        return min((load.deadline for load in self._open.values()), default=None)

    def from_address(self, address: bytes) -> list[bytes]:
        """Tickets of the loads that wait for something from there."""
        return [t for t, load in self._open.items() if address in load.order.source_addresses]

    def source_addresses(self) -> set[bytes]:
        """Where the open loads' KV is to come from."""
        return {each for load in self._open.values() for each in load.order.source_addresses}

    def take_completed(self) -> list[str]:
        completed, self.completed = self.completed, []
        return completed

    def take_failed(self) -> list[str]:
        failed, self.failed = self.failed, []
        return failed

    def take_cancelled(self) -> list[str]:
        cancelled, self.cancelled = self.cancelled, []
        return cancelled

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        assert len(self._open) == len(self._by_request), repr(self)
        assert not self._open.keys() & self._spent.keys(), repr(self)
        for ticket, load in self._open.items():
            assert self._by_request[load.order.request_id] == ticket, repr(self)
            assert not load.is_complete, repr(self)

    def __repr__(self) -> str:
        return f"<LoadLedger {len(self._open)} open>"

    def _close(self, ticket: bytes, cause: Cause) -> LoadOrder:
        load = self._open.pop(ticket)
        del self._by_request[load.order.request_id]
        self._spend(ticket, cause)
        return load.order

    def _spend(self, ticket: bytes, cause: Cause) -> None:
        self._spent.setdefault(ticket, cause)
        while len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)
