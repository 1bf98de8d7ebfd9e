"""The decode side's ledger: every ticket that this worker waits for. Pure and synchronous."""

from __future__ import annotations

from collections import OrderedDict

from kvtransfer.errors import MalformedMessage
from kvtransfer.incoming import Incoming, LoadOrder
from kvtransfer.layout import KvLayout
from kvtransfer.segment import Segment

MAX_SPENT = 16384


class LoadLedger:
    """Opens, fills and closes loads. A load ends exactly once: completed, failed or cancelled.

    A ticket is used once: one that has ended, or was failed before its load was opened, fails
    the load that shows it again.

    `completed`, `failed` and `cancelled` collect request ids for the engine: the first may
    run, the second must recompute, the third may have their blocks freed.
    """

    def __init__(self, layout: KvLayout) -> None:
        self.layout = layout
        self.num_completed = 0
        self.num_failed = 0
        self.num_late_segments = 0
        self.received_bytes = 0
        self.load_seconds = 0.0
        self.completed: list[str] = []
        self.failed: list[str] = []
        self.cancelled: list[str] = []
        self._open: dict[bytes, Incoming] = {}
        self._by_request: dict[str, bytes] = {}
        self._spent: OrderedDict[bytes, None] = OrderedDict()

    @property
    def num_open(self) -> int:
        return len(self._open)

    def open(self, order: LoadOrder, now: float) -> bool:
        """False if the load has failed at once, because its ticket is in use or spent."""
        if order.ticket in self._open or order.ticket in self._spent:
            self.failed.append(order.request_id)
            self.num_failed += 1
            return False
        load = Incoming(order, self.layout, now, now + order.lease_seconds)
        self._open[order.ticket] = load
        self._by_request[order.request_id] = order.ticket
        return True

    def is_open(self, ticket: bytes) -> bool:
        return ticket in self._open

    def blocks_of(self, segment: Segment) -> tuple[int, ...] | None:
        """Where `segment` belongs; None if nobody waits for it (counted as late).

        A segment that contradicts its order fails the load, and is dropped.
        """
        load = self._open.get(segment.ticket)
        if load is None:
            self.num_late_segments += 1
            return None
        try:
            return load.blocks_of(segment)
        except MalformedMessage:
            self.fail(segment.ticket)
            return None

    def landed(self, segment: Segment, now: float) -> None:
        """`segment` is in the paged cache."""
        load = self._open[segment.ticket]
        load.landed(segment)
        load.deadline = now + load.order.lease_seconds
        self.received_bytes += segment.payload_bytes
        if load.is_complete:
            self.num_completed += 1
            self.load_seconds += now - load.opened_at
            self.completed.append(self._close(segment.ticket).request_id)

    def fail(self, ticket: bytes) -> LoadOrder | None:
        """The KV will not come: the engine recomputes. None if the load is not open."""
        if ticket not in self._open:
            self._spend(ticket)
            return None
        self.num_failed += 1
        order = self._close(ticket)
        self.failed.append(order.request_id)
        return order

    def cancel(self, request_id: str) -> LoadOrder | None:
        """The engine wants it no more. None if it has ended already."""
        ticket = self._by_request.get(request_id)
        if ticket is None:
            return None
        self.cancelled.append(request_id)
        return self._close(ticket)

    def close(self) -> None:
        """Fails everything."""
        for ticket in list(self._open):
            self.fail(ticket)

    def expired(self, now: float) -> list[bytes]:
        """Tickets that nothing has landed for during their lease."""
        return [ticket for ticket, load in self._open.items() if load.deadline <= now]

    def next_deadline(self) -> float | None:
        return min((load.deadline for load in self._open.values()), default=None)

    def from_address(self, address: bytes) -> list[bytes]:
        """Tickets of the loads that come from there."""
        return [t for t, load in self._open.items() if load.order.source_address == address]

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
        assert len(self._open) == len(self._by_request), repr(self)
        assert not self._open.keys() & self._spent.keys(), repr(self)
        for ticket, load in self._open.items():
            assert self._by_request[load.order.request_id] == ticket, repr(self)
            assert not load.is_complete, repr(self)

    def __repr__(self) -> str:
        return f"<LoadLedger {len(self._open)} open>"

    def _close(self, ticket: bytes) -> LoadOrder:
        load = self._open.pop(ticket)
        del self._by_request[load.order.request_id]
        self._spend(ticket)
        return load.order

    def _spend(self, ticket: bytes) -> None:
        self._spent[ticket] = None
        while len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)
