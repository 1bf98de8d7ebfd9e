"""Two engines of any two layouts, and what goes between them: no thread, no network, no clock.

What happens next is drawn by dice, and so is the order in which things come.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kvtransfer.causes import Cause
from kvtransfer.incoming import LoadOrder
from kvtransfer.loads import LoadLedger
from kvtransfer.messages import Cancel, Demand, Refuse
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.sends import Parcel, SendLedger
from kvtransfer.staging import Slot
from tests.kvtransfer.builders import SEAL
from tests.kvtransfer.source_engine import LEASE, SourceEngine, SourceRank
from tests.kvtransfer.target_engine import TargetEngine

Route = tuple[int, int]  # ranks of the target and of the source
Message = TypeVar("Message")


@dataclass(eq=False)
class Flight:
    """A segment that has been packed."""

    sender: SourceRank
    parcel: Parcel
    message: Slot


class LedgerPair:
    """Segments for the target have at most `max_payload_bytes`."""

    def __init__(
        self,
        source: SourceEngine,
        target: TargetEngine,
        max_payload_bytes: int,
        dice: random.Random,
    ) -> None:
        self.source, self.target, self.dice = source, target, dice
        self.max_payload_bytes = max_payload_bytes
        self.now = 0.0
        self.unasked = list(target.orders)
        self.asked: list[LoadOrder] = []
        self.requests: dict[Route, list[Demand | Cancel]] = {}
        self.refusals: dict[Route, list[Refuse]] = {}
        self.flights: list[Flight] = []
        self.landed: list[Flight] = []

    @property
    def is_still(self) -> bool:
        """Everything has been asked for and computed, and nothing is under way."""
        under_way = self.unasked or self.requests or self.refusals or self.flights or self.landed
        return not under_way and self.source.is_done

    def step(self, moves: list[Callable[[], None]]) -> None:
        self.dice.choice(moves)()
        for number, rank in enumerate(self.source.ranks):
            for refusal in rank.ledger.take_refusals():
                route = (int(refusal.reply_address), number)
                self.refusals.setdefault(route, []).append(refusal.message)
        self.source.take_freed()
        self.target.take_ended()
        if self.dice.random() < 0.1:
            self.check_integrity()

    def check_integrity(self) -> None:
        for ledger in self.ledgers:
            ledger.check_integrity()

    @property
    def ledgers(self) -> Iterator[SendLedger | LoadLedger]:
        yield from (rank.ledger for rank in self.source.ranks)
        yield from (rank.ledger for rank in self.target.ranks)

    def compute(self) -> None:
        self.source.compute(self.now)

    def ask(self) -> None:
        """Every rank of the target asks every rank of the source."""
        if self.unasked:
            order = self.unasked.pop(self.dice.randrange(len(self.unasked)))
            self.asked.append(order)
            for number, rank in enumerate(self.target.ranks):
                if rank.ledger.open(order, self.now):
                    self._tell_all(number, self._demand(order, number))

    def cancel(self) -> None:
        """The target's engine wants a prompt no more."""
        if self.asked:
            order = self.dice.choice(self.asked)
            for number, rank in enumerate(self.target.ranks):
                if rank.ledger.cancel(order.request_id):
                    self._tell_all(number, Cancel(order.ticket, order.load))

    def fail(self) -> None:
        """One rank of the target finds something wrong with one load."""
        if self.asked:
            number = self.dice.randrange(len(self.target.ranks))
            self._fail(number, self.dice.choice(self.asked).ticket, Cause.CHECKSUM)

    def deliver(self) -> None:
        """The next control message of one link."""
        if self.requests and (not self.refusals or self.dice.random() < 0.5):
            self._obey(*self._take(self.requests))
        elif self.refusals:
            route, refuse = self._take(self.refusals)
            if self.target.ranks[route[0]].ledger.is_load(refuse.ticket, refuse.load):
                self._fail(route[0], refuse.ticket, refuse.cause)

    def pack(self) -> None:
        sender = self.dice.choice(self.source.ranks)
        if parcel := sender.ledger.next_parcel():
            message = np.zeros(HEADER_BYTES + parcel.segment.payload_bytes, np.uint8)
            sender.cache.pack(parcel.cut, message[HEADER_BYTES:])
            parcel.segment.seal(message, SEAL.seed(parcel.segment.ticket))
            self.flights.append(Flight(sender, parcel, message))

    def land(self) -> None:
        """Any of what is under way."""
        if self.flights:
            flight = self._any(self.flights)
            self.target.store(flight.parcel.rank, flight.message, self.now)
            self.landed.append(flight)

    def notice(self) -> None:
        """A sender learns that a segment has left."""
        if self.landed:
            flight = self._any(self.landed)
            flight.sender.ledger.segment_done(flight.parcel, True, self.now)

    def drop(self) -> None:
        """A segment does not get through, and its sender learns of it."""
        if self.flights:
            flight = self._any(self.flights)
            flight.sender.ledger.segment_done(flight.parcel, False, self.now)

    def wait(self) -> None:
        self.now += self.dice.random() * LEASE / 2
        for sender in self.source.ranks:
            sender.ledger.expire(self.now)
        for number, rank in enumerate(self.target.ranks):
            for ticket in rank.ledger.expired(self.now):
                self._fail(number, ticket, Cause.EXPIRED)

    def _fail(self, number: int, ticket: bytes, cause: Cause) -> None:
        if order := self.target.ranks[number].ledger.fail(ticket, cause):
            self._tell_all(number, Cancel(order.ticket, order.load))

    def _obey(self, route: Route, message: Demand | Cancel) -> None:
        ledger = self.source.ranks[route[1]].ledger
        if isinstance(message, Demand):
            ledger.demand(message, self.now)
        else:
            ledger.cancel(message.ticket, message.load)

    def _tell_all(self, number: int, message: Demand | Cancel) -> None:
        for sender in range(len(self.source.ranks)):
            self.requests.setdefault((number, sender), []).append(message)

    def _take(self, waiting: dict[Route, list[Message]]) -> tuple[Route, Message]:
        route = self.dice.choice(list(waiting))
        message = waiting[route].pop(0)
        if not waiting[route]:
            del waiting[route]
        return route, message

    def _any(self, flights: list[Flight]) -> Flight:
        return flights.pop(self.dice.randrange(len(flights)))

    def _demand(self, order: LoadOrder, number: int) -> Demand:
        return Demand(
            order.ticket,
            order.load,
            number,
            b"%d" % number,
            self.target.layout.to_json(),
            order.first_token,
            order.num_tokens,
            self.max_payload_bytes,
            order.lease_seconds,
        )
