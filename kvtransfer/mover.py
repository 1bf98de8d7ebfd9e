"""The transfer thread of one engine rank: does the I/O that the two ledgers decide on."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from kvtransfer.cache import PagedCache
from kvtransfer.control import ControlChannel
from kvtransfer.incoming import LoadOrder
from kvtransfer.links import Links
from kvtransfer.loads import LoadLedger
from kvtransfer.messages import Cancel, Demand, Message, Refuse
from kvtransfer.receiver import Receiver
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.sender import Sender
from kvtransfer.sends import SendLedger
from kvtransfer.staging import Slot, StagingPool, allocate
from kvtransfer.stats import Transfers
from kvtransfer.transport import Transport

logger = logging.getLogger("vllm.baton.mover")

BUSY_SECONDS = 0.001
IDLE_SECONDS = 5.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class MoverConfig:
    """`staging_bytes` is for both directions together and never exceeded; a slot is made
    large enough for one block of one layer. A link on which a message makes no way for
    `stall_seconds` is closed.
    """

    staging_bytes: int = 16 << 20
    slot_bytes: int = 1 << 20
    lease_seconds: float = 120.0
    stall_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What the engine is to be told: request ids by how their transfer ended."""

    sent: list[str]
    completed: list[str]
    failed: list[str]
    cancelled: list[str]


class Mover:
    """Owns the transport, the staging slots and both ledgers.

    The engine's thread calls `post`, `forget_blocks`, `take_finished`, `revoke` and `stats`;
    none of them waits for the network.
    """

    def __init__(
        self,
        transport: Transport,
        cache: PagedCache,
        config: MoverConfig | None = None,
        allocate: Callable[[int], Slot] = allocate,
    ) -> None:
        self._config = config = config or MoverConfig()
        layout = cache.layout
        slot_bytes = max(config.slot_bytes, HEADER_BYTES + layout.block_bytes)
        num_slots = max(1, config.staging_bytes // 2 // slot_bytes)
        max_tokens = (slot_bytes - HEADER_BYTES) // layout.block_bytes * layout.block_size
        self.transport = transport
        self.sends = SendLedger(layout, max_tokens, config.lease_seconds)
        self.loads = LoadLedger(layout)
        self._lock = threading.Lock()
        self._links = Links(transport)
        self._control = ControlChannel(transport, self._links)
        self._pools = [StagingPool(num_slots, slot_bytes, allocate) for _ in range(2)]
        self._sender = Sender(self.sends, cache, self._pools[0], self._links, self._lock)
        self._receiver = Receiver(self.loads, cache, self._pools[1], self._links, self._lock)
        self._inbox: deque[Callable[[], object]] = deque()
        self._errands: deque[Callable[[], object]] = deque()  # only the transfer thread sends
        self._is_asleep = False
        self._is_broken = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="baton-transfer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and frees the transport. Idempotent."""
        self._stopping.set()
        self.transport.wake()
        self._thread.join(timeout=STOP_SECONDS)

    def post(self, change: Callable[[], object]) -> None:
        """Runs `change` on the transfer thread with the ledgers locked, in order, soon."""
        self._inbox.append(change)
        if self._is_asleep:
            self.transport.wake()

    def forget_blocks(self, request_ids: Iterable[str]) -> None:
        """Returns when nothing of these requests' blocks will be read any more."""
        with self._lock:
            self._run_inbox()
            self.sends.forget_blocks(request_ids)
        self.transport.wake()

    def take_finished(self) -> Finished:
        """What has ended since the last call."""
        with self._lock:
            if self._is_broken:
                self._run_inbox()
            return Finished(
                self.sends.take_freed(),
                self.loads.take_completed(),
                self.loads.take_failed(),
                self.loads.take_cancelled(),
            )

    def revoke(self, ticket: bytes, reason: str) -> bool:
        """Ends this ticket's send or load. False if there is none."""
        with self._lock:
            self._run_inbox()
            was_open = self.fail_load(ticket, reason) | self.sends.revoke(ticket, reason)
        self.transport.wake()
        return was_open

    def stats(self) -> Transfers:
        sends, loads = self.sends, self.loads
        return Transfers(
            open_sends=sends.num_open,
            open_loads=loads.num_open,
            staging_bytes=sum(pool.held_bytes for pool in self._pools),
            sent_bytes=sends.sent_bytes,
            received_bytes=loads.received_bytes,
            sends_completed=sends.num_completed,
            sends_failed=sends.num_failed,
            loads_completed=loads.num_completed,
            loads_failed=loads.num_failed,
            late_segments=loads.num_late_segments,
            load_seconds=loads.load_seconds,
            exposed_seconds=sends.exposed_seconds,
        )

    def start_load(self, order: LoadOrder) -> None:
        """To be posted: opens a load and sends its demand."""
        if self.loads.open(order, time.monotonic()) and not self._is_broken:
            self._errands.append(partial(self._ask_for, order))

    def _ask_for(self, order: LoadOrder) -> None:
        if not self.loads.is_open(order.ticket):
            return
        link = self._links.get(order.source_address)
        if link is None:
            self.fail_load(order.ticket, "no way to it")
            return
        demand = Demand(
            order.ticket,
            link.address,
            self.loads.layout.fingerprint,
            order.first_token,
            order.num_tokens,
            self.sends.max_segment_tokens,
        )
        self._control.tell(link, demand)

    def cancel_load(self, request_id: str) -> None:
        """To be posted: the engine has ended the request."""
        if order := self.loads.cancel(request_id):
            self.decline(order.ticket, order.source_address)

    def decline(self, ticket: bytes, source_address: bytes) -> None:
        """To be posted: this ticket will not be used."""
        if not self._is_broken:
            self._errands.append(partial(self._tell, source_address, Cancel(ticket)))

    def _tell(self, address: bytes, message: Message) -> None:
        self._control.tell(self._links.get(address), message)

    def fail_load(self, ticket: bytes, reason: str) -> bool:
        """To be posted: the engine recomputes. False if there is no such load."""
        order = self._recompute(ticket, reason)
        if order is None:
            return False
        self.decline(ticket, order.source_address)
        return True

    def _recompute(self, ticket: bytes, reason: str) -> LoadOrder | None:
        if order := self.loads.fail(ticket):
            logger.warning("KV from %s will not come: %s; recomputing", order.source, reason)
        return order

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._turn():
                    self._sleep()
        except Exception:
            logger.exception("the transfer thread has failed; from now on every load is recomputed")
            with self._lock:
                self._is_broken = True
                self._run_inbox()
        finally:
            self._links.close()
            self.transport.close()

    def _turn(self) -> bool:
        """One round of everything there is to do. True if anything was done."""
        moved = self.transport.poll(0)
        with self._lock:
            moved |= self._run_inbox()
            moved |= self._run_errands()
            for message in self._control.take():
                self._obey(message)
                moved = True
            self._expire(time.monotonic())
        moved |= self._receiver.take()
        moved |= self._receiver.finish()
        moved |= self._sender.finish()
        moved |= self._sender.pump()
        return moved

    def _run_inbox(self) -> bool:
        has_any = bool(self._inbox)
        while self._inbox:
            self._inbox.popleft()()
        if self._is_broken:
            self.sends.close("transfer thread failed")
            self.loads.close()
        return has_any

    def _run_errands(self) -> bool:
        has_any = bool(self._errands)
        while self._errands:
            self._errands.popleft()()
        return has_any

    def _obey(self, message: Message) -> None:
        match message:
            case Demand():
                self.sends.demand(message, time.monotonic())
            case Cancel():
                self.sends.revoke(message.ticket, "cancelled")
            case Refuse():  # no Cancel back: the ticket may be another receiver's
                self._recompute(message.ticket, message.reason)

    def _expire(self, now: float) -> None:
        self.sends.expire(now)
        for ticket in self.loads.expired(now):
            self.fail_load(ticket, "lease expired")
        for refusal in self.sends.take_refusals():
            self._tell(refusal.reply_address, refusal.message)
        self._drop_bad_links(now - self._config.stall_seconds)

    def _drop_bad_links(self, before: float) -> None:
        """A link that lost something, or on which nothing moves, is closed, and what it was to
        bring is recomputed.
        """
        for part in (self._sender, self._receiver, self._control):
            for link in part.take_bad_links(before):
                if address := self._links.drop(link):
                    for ticket in self.loads.from_address(address):
                        self.fail_load(ticket, "its link is broken or silent")

    def _sleep(self) -> None:
        self._is_asleep = True
        if not self._inbox and not self._errands and not self._stopping.is_set():
            self.transport.poll(self._sleep_seconds())
        self._is_asleep = False

    def _sleep_seconds(self) -> float:
        flights = self._sender.num_under_way + self._receiver.num_under_way
        if flights + self._control.num_under_way:
            return BUSY_SECONDS
        deadlines = (self.sends.next_deadline(), self.loads.next_deadline())
        waits = [deadline - time.monotonic() for deadline in deadlines if deadline is not None]
        return min([IDLE_SECONDS, *(max(BUSY_SECONDS, wait) for wait in waits)])
