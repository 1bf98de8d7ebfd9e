"""The prefill side's ledger: every ticket that this worker holds KV for. Pure and synchronous."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvtransfer.layout import KvLayout
from kvtransfer.messages import MAX_REASON_CHARS, Demand, Refuse
from kvtransfer.outgoing import Outgoing
from kvtransfer.segment import Segment

MAX_PARKED = 4096
MAX_SPENT = 16384


@dataclass(frozen=True, slots=True)
class Parcel:
    """A segment to pack and send: where its tokens lie, and who gets it."""

    segment: Segment
    block_ids: tuple[int, ...]
    reply_address: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message owed to a receiver."""

    reply_address: bytes
    message: Refuse


class SendLedger:
    """Opens, feeds and closes hand-offs; each ticket is honoured once.

    A demand that comes before its request is parked for its lease. `freed` collects the
    requests that the engine has ended and whose blocks it may have back; `refusals` the
    messages to send.
    """

    def __init__(self, layout: KvLayout, max_segment_tokens: int, lease_seconds: float) -> None:
        self.layout = layout
        self.max_segment_tokens = max_segment_tokens
        self.lease_seconds = lease_seconds
        self.num_completed = 0
        self.num_failed = 0
        self.sent_bytes = 0
        self.exposed_seconds = 0.0
        self.freed: list[str] = []
        self.refusals: list[Refusal] = []
        self._open: dict[bytes, Outgoing] = {}
        self._by_request: dict[str, bytes] = {}
        self._parked: dict[bytes, tuple[Demand, float]] = {}
        self._spent: OrderedDict[bytes, str] = OrderedDict()
        self._turn: deque[bytes] = deque()

    @property
    def num_open(self) -> int:
        return len(self._open)

    def open(self, ticket: bytes, request_id: str, lease_seconds: float, now: float) -> None:
        """A prefill request with this ticket has blocks. Opening twice changes nothing: if it
        is another request that shows the ticket, nothing of it will be sent.
        """
        if ticket in self._open or ticket in self._spent:
            return
        send = Outgoing(ticket, request_id, self.layout, lease_seconds, now + lease_seconds)
        self._open[ticket] = send
        self._by_request[request_id] = ticket
        parked = self._parked.pop(ticket, None)
        if parked is not None:
            self._answer(send, parked[0], now)

    def place(self, request_id: str, block_ids: tuple[int, ...]) -> None:
        """The request's blocks, in prompt order, as the engine holds them now."""
        if ticket := self._by_request.get(request_id):
            self._open[ticket].block_ids = block_ids

    def layer_computed(self, request_id: str, layer: int, num_tokens: int, now: float) -> None:
        if ticket := self._by_request.get(request_id):
            send = self._open[ticket]
            send.layer_computed(layer, num_tokens, now)
            send.deadline = now + send.lease_seconds
            self._enqueue(ticket)

    def forget_blocks(self, request_ids: Iterable[str]) -> None:
        """The engine takes these requests' blocks back before anything else is packed."""
        for request_id in request_ids:
            if ticket := self._by_request.get(request_id):
                self._open[ticket].forget_blocks()

    def demand(self, demand: Demand, now: float) -> None:
        """A receiver asks. Unknown tickets wait for their request; bad ones are refused."""
        if demand.ticket in self._spent:
            self._refuse(demand, f"ticket already {self._spent[demand.ticket]}")
        elif demand.fingerprint != self.layout.fingerprint:
            self._refuse(demand, f"KV layout differs; the sender has {self.layout.summary}")
        elif demand.first_token % self.layout.block_size:
            self._refuse(demand, f"first token {demand.first_token} is inside a block")
        elif demand.max_segment_tokens < self.layout.block_size:
            self._refuse(demand, f"no room for a block of {self.layout.block_size} tokens")
        elif send := self._open.get(demand.ticket):
            if send.demand is not None:
                self._refuse(demand, "ticket already answered")
            else:
                self._answer(send, demand, now)
        elif demand.ticket in self._parked:
            self._refuse(demand, "ticket already asked for")
        elif len(self._parked) >= MAX_PARKED:
            self._refuse(demand, f"{MAX_PARKED} demands already wait for their requests")
        else:
            self._parked[demand.ticket] = (demand, now + self.lease_seconds)

    def revoke(self, ticket: bytes, reason: str) -> bool:
        """Ends a hand-off early, from either side. False if there was none."""
        was_parked = self._parked.pop(ticket, None)
        if was_parked:
            self._refuse(was_parked[0], reason)
        was_open = ticket in self._open
        self._close(ticket, reason)
        return was_open or was_parked is not None

    def request_ended(self, ticket: bytes, request_id: str, is_prefilled: bool) -> None:
        """The engine has ended the request and keeps its blocks until it is in `freed`."""
        if ticket in self._open and self._by_request.get(request_id) != ticket:
            self.freed.append(request_id)
            return
        if not is_prefilled:
            self.revoke(ticket, "aborted")
        if send := self._open.get(ticket):
            send.is_ended = True
        else:
            self.freed.append(request_id)

    def next_parcel(self) -> Parcel | None:
        """The next segment to pack, tickets in turn; None when nothing is sendable."""
        while self._turn:
            ticket = self._turn.popleft()
            send = self._open.get(ticket)
            found = send.next_range(self.max_segment_tokens) if send else None
            if send is None or found is None:
                continue
            self._turn.append(ticket)
            return self._parcel(send, *found)
        return None

    def segment_done(self, segment: Segment, is_sent: bool, now: float) -> None:
        """One packed segment has left, or could not."""
        send = self._open.get(segment.ticket)
        if send is None:
            return
        send.num_in_flight -= 1
        if not is_sent:
            self.revoke(segment.ticket, "connection lost")
            return
        send.sent_bytes += segment.payload_bytes
        self.sent_bytes += segment.payload_bytes
        send.deadline = now + send.lease_seconds
        self._settle(send, now)

    def expire(self, now: float) -> None:
        """Closes what nothing has happened to for its lease."""
        for ticket in [t for t, send in self._open.items() if send.deadline <= now]:
            self.revoke(ticket, "expired")
        for ticket in [t for t, (_, deadline) in self._parked.items() if deadline <= now]:
            self.revoke(ticket, "expired")

    def close(self, reason: str) -> None:
        """Ends everything."""
        for ticket in [*self._open, *self._parked]:
            self.revoke(ticket, reason)

    def next_deadline(self) -> float | None:
        """When `expire` may next have something to do."""
        return min(self._deadlines(), default=None)

    def take_freed(self) -> list[str]:
        freed, self.freed = self.freed, []
        return freed

    def take_refusals(self) -> list[Refusal]:
        refusals, self.refusals = self.refusals, []
        return refusals

    def check_integrity(self) -> None:
        assert len(self._open) == len(self._by_request), repr(self)
        assert not self._open.keys() & self._spent.keys(), repr(self)
        assert not self._open.keys() & self._parked.keys(), repr(self)
        for send in self._open.values():
            assert send.num_in_flight >= 0, send

    def __repr__(self) -> str:
        return f"<SendLedger {len(self._open)} open, {len(self._parked)} parked>"

    def _answer(self, send: Outgoing, demand: Demand, now: float) -> None:
        send.answer(demand)
        send.deadline = now + send.lease_seconds
        self._enqueue(send.ticket)
        self._settle(send, now)

    def _enqueue(self, ticket: bytes) -> None:
        if ticket not in self._turn:
            self._turn.append(ticket)

    def _parcel(self, send: Outgoing, layer: int, first: int, num_tokens: int) -> Parcel:
        assert send.demand is not None
        start = first // self.layout.block_size
        blocks = send.block_ids[start : start + self.layout.num_blocks(num_tokens)]
        payload = self.layout.layer_bytes(num_tokens)
        send.num_in_flight += 1
        segment = Segment(send.ticket, layer, first, num_tokens, payload)
        return Parcel(segment, blocks, send.demand.reply_address)

    def _settle(self, send: Outgoing, now: float) -> None:
        if send.is_complete:
            self.num_completed += 1
            self.exposed_seconds += max(0.0, now - send.computed_at) if send.sent_bytes else 0.0
            self._retire(send, "used")

    def _close(self, ticket: bytes, reason: str) -> None:
        send = self._open.get(ticket)
        if send is None:
            self._spend(ticket, reason)
            return
        self.num_failed += 1
        if send.demand is not None:
            self._refuse(send.demand, reason)
        self._retire(send, reason)

    def _retire(self, send: Outgoing, reason: str) -> None:
        del self._open[send.ticket]
        del self._by_request[send.request_id]
        self._spend(send.ticket, reason)
        if send.is_ended:
            self.freed.append(send.request_id)

    def _spend(self, ticket: bytes, reason: str) -> None:
        self._spent[ticket] = reason
        while len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)

    def _refuse(self, demand: Demand, reason: str) -> None:
        refuse = Refuse(demand.ticket, reason[:MAX_REASON_CHARS])
        self.refusals.append(Refusal(demand.reply_address, refuse))

    def _deadlines(self) -> Iterator[float]:
        yield from (send.deadline for send in self._open.values())
        yield from (deadline for _, deadline in self._parked.values())
