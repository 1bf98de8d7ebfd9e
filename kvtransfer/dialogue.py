"""What one rank says to its peers, and what it does about what they say."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from kvtransfer.causes import Cause
from kvtransfer.control import ControlChannel
from kvtransfer.incoming import LoadOrder
from kvtransfer.ledgers import Ledgers
from kvtransfer.links import Links
from kvtransfer.messages import Cancel, Demand, Left, Message, Ping, Pong, Refuse
from kvtransfer.peers import Peers
from kvtransfer.sends import Refusal
from kvtransfer.transport import Link
from kvtransfer.wire import WireFormat

logger = logging.getLogger("vllm.baton.dialogue")

ERRANDS_SECONDS = 0.005


class Dialogue:
    """`max_payload_bytes` and `wire` are what its demands say of this rank.

    What changes a ledger is done under its lock, by any thread. What has to be said about it waits
    for the transfer thread, which says it without the lock: links are made and closed on the
    way, and the engine must not wait for that.
    """

    def __init__(
        self,
        links: Links,
        control: ControlChannel,
        peers: Peers,
        ledgers: Ledgers,
        max_payload_bytes: int,
        wire: WireFormat,
    ) -> None:
        self._links = links
        self._control = control
        self._peers = peers
        self._sends = ledgers.sends
        self._loads = ledgers.loads
        self._lock = ledgers.lock
        self._max_payload_bytes = max_payload_bytes
        self._wire = wire
        self._errands: deque[Callable[[], object]] = deque()
        self._is_closed = False

    # Under the lock.

    def start_load(self, order: LoadOrder) -> None:
        """Opens a load; its demands follow."""
        if self._loads.open(order, time.monotonic()):
            self._later(partial(self._ask_for, order))

    def cancel_load(self, request_id: str) -> None:
        """The engine has ended the request."""
        if order := self._loads.cancel(request_id):
            self.decline(order.ticket, order.load, order.source_addresses)

    def decline(self, ticket: bytes, load: bytes, source_addresses: Iterable[bytes]) -> None:
        """This ticket will not be used."""
        self._later(partial(self._tell_all, source_addresses, Cancel(ticket, load)))

    def fail_load(self, ticket: bytes, cause: Cause, reason: str) -> bool:
        """The engine recomputes. False if there is no such load."""
        order = self._loads.fail(ticket, cause)
        if order is None:
            return False
        logger.warning(
            "KV from %s will not come (%s): %s; recomputing", order.source, cause, reason
        )
        self._later(partial(self._tell_linked, order.source_addresses, Cancel(ticket, order.load)))
        return True

    def introduce(self, addresses: Iterable[bytes]) -> None:
        """These peers will be needed: the links to them are made."""
        for address in addresses:
            self._later(partial(self.greet, address))

    def part(self, addresses: Iterable[bytes]) -> None:
        """These peers are gone."""
        for address in addresses:
            self._later(partial(self.lose, address, Cause.LINK_LOST))

    def close(self) -> None:
        """Nothing more will be said."""
        self._is_closed = True
        self._errands.clear()

    # On the transfer thread, without the lock.

    @property
    def is_owed(self) -> bool:
        """There is something to say."""
        return bool(self._errands)

    def turn(self) -> bool:
        """Hears, and says, what there is; not for long, as KV waits meanwhile. True if there was
        anything.
        """
        messages = self._control.take()
        for message, link in messages:
            self._obey(message, link)
        with self._lock:
            refusals = self._sends.take_refusals()
        for refusal in refusals:
            self._refuse(refusal)
        is_owed, until = self.is_owed, time.monotonic() + ERRANDS_SECONDS
        while self._errands and time.monotonic() < until:
            self._errands.popleft()()
        return bool(messages) or is_owed

    def greet(self, address: bytes) -> None:
        """Asks this peer whether it is there."""
        if link := self._links.get(address):
            self._control.tell(link, Ping(link.address))

    def lose(self, address: bytes, cause: Cause) -> None:
        """What this peer was to bring is recomputed, what it was to get is freed."""
        self._links.drop(address)
        self._peers.forget(address)
        with self._lock:
            for ticket in self._loads.from_address(address):
                self.fail_load(ticket, cause, "its source is lost")
            self._sends.revoke_from(address, cause)

    def tell_left(self) -> None:
        """Where there is a new link: which one before it is closed."""
        for link, left in self._links.take_left():
            self._control.tell(link, Left(left))

    def _later(self, errand: Callable[[], object]) -> None:
        if not self._is_closed:
            self._errands.append(errand)

    def _ask_for(self, order: LoadOrder) -> None:
        for address in order.source_addresses:
            if not self._is_open(order):
                return
            link = self._links.get(address)
            if link is None or not self._control.tell(link, self._demand(order, link)):
                with self._lock:
                    self.fail_load(order.ticket, Cause.NO_ROUTE, "its source cannot be asked")

    def _is_open(self, order: LoadOrder) -> bool:
        with self._lock:
            return self._loads.is_load(order.ticket, order.load)

    def _demand(self, order: LoadOrder, link: Link) -> Demand:
        return Demand(
            order.ticket,
            order.load,
            self._loads.rank,
            link.address,
            self._loads.layout.to_json(),
            order.first_token,
            order.num_tokens,
            self._max_payload_bytes,
            order.lease_seconds,
            self._wire,
        )

    def _tell_all(self, addresses: Iterable[bytes], message: Message) -> None:
        for address in addresses:
            if link := self._links.get(address):
                self._control.tell(link, message)

    def _tell_linked(self, addresses: Iterable[bytes], message: Message) -> None:
        self._tell_all(filter(self._links.find, addresses), message)

    def _refuse(self, refusal: Refusal) -> None:
        self._tell_all([refusal.reply_address], refusal.message)

    def _obey(self, message: Message, link: Link | None) -> None:
        now = time.monotonic()
        match message:
            case Demand():
                self._peers.heard_from(message.reply_address, now)
                with self._lock:
                    self._sends.demand(message, now)
            case Cancel():
                with self._lock:
                    self._sends.cancel(message.ticket, message.load)
            case Refuse():
                with self._lock:
                    if self._loads.is_load(message.ticket, message.load):
                        self.fail_load(message.ticket, message.cause, message.reason)
            case Ping():
                self._peers.heard_from(message.reply_address, now)
                self._tell_all([message.reply_address], Pong())
            case Pong():
                self._peers.heard_on(link, now)
            case Left():
                self.lose(message.address, Cause.LINK_LOST)
