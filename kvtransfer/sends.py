"""The prefill side's ledger: every ticket that this rank holds KV for. Pure and synchronous."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kvtransfer.causes import Cause
from kvtransfer.cut import Cut
from kvtransfer.delivery import Delivery, Source, Stretch, deliver
from kvtransfer.errors import DemandRefused
from kvtransfer.messages import MAX_REASON_CHARS, Demand, Refuse
from kvtransfer.outgoing import Outgoing
from kvtransfer.parking import Parking
from kvtransfer.segment import Segment

MAX_SPENT = 16384


@dataclass(frozen=True, slots=True)
class Parcel:
    """A segment to pack and send: what to cut out of the cache, and who gets it."""

    segment: Segment
    cut: Cut
    rank: int
    reply_address: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message owed to a receiver."""

    reply_address: bytes
    message: Refuse


@dataclass(frozen=True, slots=True)
class Spent:
    """How a ticket has ended, and the load that it served or was to serve, if any."""

    cause: Cause
    load: bytes | None = None


class SendLedger:
    """Opens, feeds and closes hand-offs; each ticket is honoured once.

    A demand that comes before its request is parked for its lease. `freed` collects the
    requests that the engine has ended and whose blocks it may have back; `refusals` the
    messages to send; `failures` counts why tickets ended that were not used, `refused` why
    demands were not met.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.shard = source.shard
        self.num_completed = 0
        self.failures: Counter[Cause] = Counter()
        self.refused: Counter[Cause] = Counter()
        self.sent_bytes = 0
        self.sent_segments = 0
        self.exposed_seconds = 0.0
        self.freed: list[str] = []
        self.refusals: list[Refusal] = []
        self._open: dict[bytes, Outgoing] = {}
        self._by_request: dict[str, bytes] = {}
        self._parking = Parking()
        self._spent: OrderedDict[bytes, Spent] = OrderedDict()
        self._turn: dict[tuple[bytes, int], None] = {}

    @property
    def num_open(self) -> int:
        return len(self._open)

    @property
    def num_failed(self) -> int:
        return self.failures.total()

    @property
    def held_bytes(self) -> int:
        """Of the paged cache, for open tickets."""
        return sum(self.held().values())

    def held(self) -> dict[bytes, int]:
        """Bytes of the paged cache, by open ticket."""
        block = self.source.layout.head_bytes * self.shard.num_heads * self.shard.num_layers
        return {ticket: block * len(send.block_ids) for ticket, send in self._open.items()}

    def open(self, ticket: bytes, request_id: str, lease_seconds: float, now: float) -> None:
        """A prefill request with this ticket has blocks. Opening twice changes nothing: if it
        is another request that shows the ticket, nothing of it will be sent.
        """
        if ticket in self._open or ticket in self._spent:
            return
        send = Outgoing(ticket, request_id, self.shard, lease_seconds, now + lease_seconds)
        self._open[ticket] = send
        self._by_request[request_id] = ticket
        for demand in self._parking.take(ticket):
            self.demand(demand, now)

    def place(self, request_id: str, block_ids: tuple[int, ...]) -> None:
        """The request's blocks, in prompt order, as the engine holds them now."""
        if ticket := self._by_request.get(request_id):
            self._open[ticket].block_ids = block_ids

    def layer_computed(self, request_id: str, layer: int, num_tokens: int, now: float) -> None:
        """`layer` is counted through the model."""
        if ticket := self._by_request.get(request_id):
            send = self._open[ticket]
            send.layer_computed(layer, num_tokens, now)
            send.deadline = now + send.lease_seconds
            for rank in send.deliveries:
                self._enqueue(ticket, rank)

    def forget_blocks(self, request_ids: Iterable[str]) -> None:
        """The engine takes these requests' blocks back before anything else is packed."""
        for request_id in request_ids:
            if ticket := self._by_request.get(request_id):
                self._open[ticket].forget_blocks()

    def demand(self, demand: Demand, now: float) -> None:
        """A receiver asks. Unknown tickets wait for their request; bad demands are refused.

        The same one again is no receiver's doing, and has no effect on the first.
        """
        if self._is_repeated(demand):
            self.refused[Cause.REPEATED] += 1
            return
        try:
            if spent := self._spent.get(demand.ticket):
                raise DemandRefused(Cause.USED, f"the ticket has ended already ({spent.cause})")
            if send := self._open.get(demand.ticket):
                self._answer(send, deliver(self.source, demand), now)
            else:
                self._parking.park(demand, now)
        except DemandRefused as error:
            self.refused[error.cause] += 1
            self._refuse(demand, error.cause, str(error))
            if error.cause is Cause.LAYOUT:  # nobody else will come for it
                self.revoke(demand.ticket, error.cause, str(error))

    def cancel(self, ticket: bytes, load: bytes) -> None:
        """A receiver wants it no more; what is another load's goes on."""
        loads = {each.load for each in self._parking.of(ticket)}
        if (send := self._open.get(ticket)) and send.load is not None:
            loads.add(send.load)
        if loads <= {load}:
            self.revoke(ticket, Cause.CANCELLED)

    def revoke(self, ticket: bytes, cause: Cause, reason: str = "") -> bool:
        """Ends a hand-off early, from either side. False if there was none."""
        was_open = ticket in self._open or ticket in self._parking
        for demand in self._parking.take(ticket):
            self._refuse(demand, cause, reason)
        self._close(ticket, cause, reason)
        return was_open

    def revoke_from(self, reply_address: bytes, cause: Cause) -> None:
        """This receiver is lost, and is owed no message any more."""
        for ticket in [t for t, send in self._open.items() if send.goes_to(reply_address)]:
            self.revoke(ticket, cause)
        self.refusals = [each for each in self.refusals if each.reply_address != reply_address]

    def request_ended(self, ticket: bytes, request_id: str, is_prefilled: bool) -> None:
        """The engine has ended the request and keeps its blocks until it is in `freed`."""
        if ticket in self._open and self._by_request.get(request_id) != ticket:
            self.freed.append(request_id)
            return
        if not is_prefilled:
            self.revoke(ticket, Cause.ABORTED)
        if send := self._open.get(ticket):
            send.is_ended = True
        else:
            self.freed.append(request_id)

    def next_parcel(
        self, has_room: Callable[[bytes], bool] = lambda address: True
    ) -> Parcel | None:
        """The next segment to pack, receivers in turn; None when nothing is sendable.

        `has_room` says whether more may be under way to a reply address.
        """
        for ticket, rank in list(self._turn):
            send = self._open.get(ticket)
            delivery = send.deliveries[rank] if send else None
            if delivery and not has_room(delivery.demand.reply_address):
                continue
            del self._turn[ticket, rank]
            if send and delivery and (stretch := delivery.next_stretch(send.computed)):
                self._turn[ticket, rank] = None
                return self._parcel(send, delivery, stretch)
        return None

    def segment_done(self, parcel: Parcel, is_sent: bool, now: float) -> None:
        """One packed segment has left, or could not."""
        segment = parcel.segment
        send = self._open.get(segment.ticket)
        if send is None:
            return
        delivery = send.deliveries[parcel.rank]
        delivery.num_in_flight -= 1
        if not is_sent:
            self.revoke(segment.ticket, Cause.LINK_LOST)
            return
        delivery.sent_bytes += segment.payload_bytes
        self.sent_bytes += segment.payload_bytes
        self.sent_segments += 1
        send.deadline = now + send.lease_seconds
        self._settle(send, now)

    def reply_addresses(self) -> set[bytes]:
        """Of all receivers that are still owed something."""
        return {
            delivery.demand.reply_address
            for send in self._open.values()
            for delivery in send.deliveries.values()
            if not delivery.is_complete
        }

    def expire(self, now: float) -> None:
        """Closes what nothing has happened to for its lease."""
        late = [t for t, send in self._open.items() if send.deadline <= now]
        for ticket in [*late, *self._parking.expired(now)]:
            self.revoke(ticket, Cause.EXPIRED)

    def close(self, cause: Cause) -> None:
        """Ends everything."""
        for ticket in [*self._open, *self._parking]:
            self.revoke(ticket, cause)

    def next_deadline(self) -> float | None:
        """When `expire` may next have something to do."""
        deadlines = [send.deadline for send in self._open.values()]
        if (parked := self._parking.next_deadline()) is not None:
            deadlines.append(parked)
        return min(deadlines, default=None)

    def take_freed(self) -> list[str]:
        freed, self.freed = self.freed, []
        return freed

    def take_refusals(self) -> list[Refusal]:
        refusals, self.refusals = self.refusals, []
        return refusals

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        assert len(self._open) == len(self._by_request), repr(self)
        assert not self._open.keys() & self._spent.keys(), repr(self)
        assert not any(ticket in self._open for ticket in self._parking), repr(self)
        self._parking.check_integrity()
        for send in self._open.values():
            for delivery in send.deliveries.values():
                assert delivery.num_in_flight >= 0, repr(self)
                assert delivery.demand.load == send.load, repr(self)

    def __repr__(self) -> str:
        return f"<SendLedger {len(self._open)} open, {len(self._parking)} parked>"

    def _answer(self, send: Outgoing, delivery: Delivery, now: float) -> None:
        send.answer(delivery)
        send.deadline = now + send.lease_seconds
        self._enqueue(send.ticket, delivery.demand.rank)
        self._settle(send, now)

    def _is_repeated(self, demand: Demand) -> bool:
        if spent := self._spent.get(demand.ticket):
            return spent == Spent(Cause.USED, demand.load)
        if send := self._open.get(demand.ticket):
            return send.has_answered(demand)
        return demand in self._parking.of(demand.ticket)

    def _enqueue(self, ticket: bytes, rank: int) -> None:
        self._turn.setdefault((ticket, rank))

    def _parcel(self, send: Outgoing, delivery: Delivery, stretch: Stretch) -> Parcel:
        delivery.num_in_flight += 1
        heads = delivery.overlap.heads
        segment = Segment(
            send.ticket,
            stretch.layer,
            stretch.first_block,
            stretch.num_blocks,
            heads.start,
            len(heads),
            stretch.num_blocks * delivery.block_bytes,
            delivery.wire,
        )
        cut = Cut.of(self.shard, delivery, stretch, send.block_ids)
        return Parcel(segment, cut, delivery.demand.rank, delivery.demand.reply_address)

    def _settle(self, send: Outgoing, now: float) -> None:
        if send.is_complete:
            self.num_completed += 1
            self.exposed_seconds += max(0.0, now - send.computed_at) if send.sent_bytes else 0.0
            self._retire(send, Cause.USED)

    def _close(self, ticket: bytes, cause: Cause, reason: str) -> None:
        send = self._open.get(ticket)
        if send is None:
            self._spend(ticket, Spent(cause))
            return
        self.failures[cause] += 1
        for delivery in send.deliveries.values():
            self._refuse(delivery.demand, cause, reason)
        self._retire(send, cause)

    def _retire(self, send: Outgoing, cause: Cause) -> None:
        del self._open[send.ticket]
        del self._by_request[send.request_id]
        self._spend(send.ticket, Spent(cause, send.load))
        if send.is_ended:
            self.freed.append(send.request_id)

    def _spend(self, ticket: bytes, spent: Spent) -> None:
        self._spent.setdefault(ticket, spent)
        while len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)

    def _refuse(self, demand: Demand, cause: Cause, reason: str) -> None:
        refuse = Refuse(demand.ticket, demand.load, cause, reason[:MAX_REASON_CHARS])
        self.refusals.append(Refusal(demand.reply_address, refuse))
