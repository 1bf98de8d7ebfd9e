"""Every ticket that a worker has taken: once each, and none for longer than its lease."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from proto import worker_pb2
from proto.ticket import Ticket
from worker.errors import TicketLedgerFull, UsedTicket
from worker.leg import Role

MAX_USED = 100_000


@dataclass(frozen=True, slots=True)
class OpenTicket:
    """`deadline`: when its lease ends. `engine_id`: its leg's."""

    id: bytes
    role: Role
    engine_id: str
    deadline: float


@dataclass(frozen=True, slots=True)
class TicketCounts:
    """What is told of a ledger. `next_deadline` None: no ticket is open."""

    num_open: int = 0
    num_bytes: int = 0
    next_deadline: float | None = None
    refused: tuple[tuple[str, int], ...] = ()

    def to_proto(self, now: float) -> worker_pb2.Tickets:
        left = 0.0 if self.next_deadline is None else max(0.0, self.next_deadline - now)
        return worker_pb2.Tickets(
            num_open=self.num_open,
            num_bytes=self.num_bytes,
            next_deadline_seconds=left,
            refused=dict(self.refused),
        )


class TicketLedger:
    """Pure and synchronous; `now` is in seconds of any steady clock.

    A decode leg's ticket is open until the leg's first output, a prefill leg's until its leg
    has ended and the engine holds nothing for it; either until its lease ends. A used ticket
    is remembered for as long as it could be shown again.
    """

    def __init__(self, max_used: int = MAX_USED) -> None:
        self._max_used = max_used
        self._used: set[tuple[Role, bytes]] = set()
        self._forget: list[tuple[float, Role, bytes]] = []
        self._open: dict[str, OpenTicket] = {}
        self._settling: dict[str, float] = {}
        self._held: dict[bytes, int] = {}
        self._refused: Counter[str] = Counter()

    @property
    def is_settling(self) -> bool:
        """The engine is to be asked what it still holds."""
        return bool(self._settling)

    @property
    def has_open(self) -> bool:
        return bool(self._open)

    def open(
        self, role: Role, engine_id: str, ticket: Ticket, now: float, valid_seconds: float
    ) -> None:
        """`valid_seconds`: how long it could be shown again.

        Raises UsedTicket and TicketLedgerFull.
        """
        self._forget_old(now)
        use = (role, ticket.id)
        if use in self._used:
            raise UsedTicket
        if len(self._used) >= self._max_used:
            raise TicketLedgerFull(len(self._used))
        self._used.add(use)
        heapq.heappush(self._forget, (now + valid_seconds, *use))
        deadline = now + ticket.lease_seconds
        self._open[engine_id] = OpenTicket(ticket.id, role, engine_id, deadline)

    def refuse(self, engine_id: str, cause: str) -> None:
        """The leg goes on without a ticket, or not at all."""
        self.close(engine_id)
        self._refused[cause] += 1

    def output(self, engine_id: str, is_last: bool, now: float) -> None:
        """A leg has brought an output. Legs without an open ticket are passed over."""
        ticket = self._open.get(engine_id)
        if ticket is not None and (is_last or ticket.role is Role.DECODE):
            self.leg_ended(engine_id, now)

    def leg_ended(self, engine_id: str, now: float) -> None:
        """Well or not."""
        ticket = self._open.get(engine_id)
        if ticket is None:
            return
        if ticket.role is Role.PREFILL:
            self._settling.setdefault(engine_id, now)
        else:
            self.close(engine_id)

    def close(self, engine_id: str) -> OpenTicket | None:
        """Nothing is held for it. None if it is not open."""
        self._settling.pop(engine_id, None)
        ticket = self._open.pop(engine_id, None)
        if ticket is not None:
            self._held.pop(ticket.id, None)
        return ticket

    def held(self, num_bytes: Mapping[bytes, int], asked_at: float) -> None:
        """What the engine holds, by ticket, as it said when it was asked at `asked_at`."""
        ended = [engine_id for engine_id, since in self._settling.items() if since < asked_at]
        for engine_id in ended:
            if self._open[engine_id].id not in num_bytes:
                self.close(engine_id)
        ids = {ticket.id for ticket in self._open.values()}
        self._held = {each: num_bytes[each] for each in ids & num_bytes.keys()}

    def overdue(self, now: float) -> list[OpenTicket]:
        """Those whose lease has ended. They are closed then."""
        self._forget_old(now)
        late = [ticket for ticket in self._open.values() if ticket.deadline <= now]
        for ticket in late:
            self.close(ticket.engine_id)
        return late

    def counts(self) -> TicketCounts:
        return TicketCounts(
            len(self._open),
            sum(self._held.values()),
            min((ticket.deadline for ticket in self._open.values()), default=None),
            tuple(sorted(self._refused.items())),
        )

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other."""
        assert self._settling.keys() <= self._open.keys(), self
        assert all(self._open[name].role is Role.PREFILL for name in self._settling), self
        assert all(name == ticket.engine_id for name, ticket in self._open.items()), self
        assert self._held.keys() <= {ticket.id for ticket in self._open.values()}, self
        assert {(role, each) for _, role, each in self._forget} == self._used, self
        assert len(self._forget) == len(self._used) <= self._max_used, self

    def _forget_old(self, now: float) -> None:
        while self._forget and self._forget[0][0] <= now:
            _, role, ticket_id = heapq.heappop(self._forget)
            self._used.discard((role, ticket_id))

    def __repr__(self) -> str:
        return (
            f"<TicketLedger: {len(self._open)} open, {len(self._settling)} settling, "
            f"{len(self._used)} used>"
        )
