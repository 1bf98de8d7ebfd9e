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
from kvtransfer.causes import Cause
from kvtransfer.control import ControlChannel
from kvtransfer.delivery import Source
from kvtransfer.envelope import Envelope, HostEnvelope
from kvtransfer.incoming import LoadOrder
from kvtransfer.links import Links
from kvtransfer.loads import LoadLedger
from kvtransfer.messages import Cancel, Demand, Left, Message, Ping, Pong, Refuse
from kvtransfer.mover_config import MoverConfig
from kvtransfer.peers import Peers
from kvtransfer.receiver import Receiver
from kvtransfer.seal import Seal
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.sender import Sender
from kvtransfer.sends import SendLedger
from kvtransfer.staging import Slot, StagingPool, allocate
from kvtransfer.stats import Transfers
from kvtransfer.transport import Link, Transport

logger = logging.getLogger("vllm.baton.mover")

BUSY_SECONDS = 0.001
IDLE_SECONDS = 5.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What the engine is to be told: request ids by how their transfer ended."""

    sent: list[str]
    completed: list[str]
    failed: list[str]
    cancelled: list[str]


def slot_bytes_of(config: MoverConfig, cache: PagedCache) -> int:
    """Of one staging slot."""
    shard = cache.layout.shard(cache.rank)
    return max(config.slot_bytes, HEADER_BYTES + shard.num_heads * cache.layout.head_bytes)


class Mover:
    """Owns the transport, the staging slots and both ledgers.

    The engine's thread calls `post`, `forget_blocks`, `take_finished`, `revoke` and `stats`;
    none of them waits for the network.
    """

    def __init__(
        self,
        transport: Transport,
        cache: PagedCache,
        seal: Seal,
        config: MoverConfig | None = None,
        allocate: Callable[[int], Slot] = allocate,
        envelope: Envelope | None = None,
    ) -> None:
        self._config = config = config or MoverConfig()
        envelope = envelope or HostEnvelope()
        layout = cache.layout
        slot_bytes = slot_bytes_of(config, cache)
        num_slots = max(1, config.staging_bytes // 2 // slot_bytes)
        self._max_payload_bytes = slot_bytes - HEADER_BYTES
        self.transport = transport
        source = Source(layout, cache.rank, self._max_payload_bytes, config.wire)
        self.sends = SendLedger(source, config.lease_seconds)
        self.loads = LoadLedger(layout, cache.rank)
        self._lock = lock = threading.Lock()
        self._links = links = Links(transport)
        self._control = ControlChannel(transport, links, seal)
        self._pools = [StagingPool(num_slots, slot_bytes, allocate) for _ in range(2)]
        self._sender = Sender(self.sends, cache, self._pools[0], links, seal, envelope, lock)
        self._receiver = Receiver(
            self.loads, cache, self._pools[1], links, seal, envelope, lock, self.fail_load
        )
        self._peers = Peers(links, self.sends, self.loads, config)
        self._inbox: deque[Callable[[], object]] = deque()
        self._errands: deque[Callable[[], object]] = deque()  # only the transfer thread sends
        self._looked_at = 0.0
        self._patient_until = 0.0
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
            had_load = self.fail_load(ticket, Cause.REVOKED, reason)
            had_send = self.sends.revoke(ticket, Cause.REVOKED, reason)
        self.transport.wake()
        return had_load or had_send

    def stats(self) -> Transfers:
        with self._lock:
            sends, loads = self.sends, self.loads
            failures = {f"send_{cause}": n for cause, n in sends.failures.items()}
            failures |= {f"load_{cause}": n for cause, n in loads.failures.items()}
            return Transfers(
                open_sends=sends.num_open,
                open_loads=loads.num_open,
                held_bytes=sends.held_bytes,
                awaited_bytes=loads.awaited_bytes,
                staging_bytes=sum(pool.held_bytes for pool in self._pools),
                links=len(self._links),
                failed_threads=int(self._is_broken),
                sent_bytes=sends.sent_bytes,
                received_bytes=loads.received_bytes,
                sent_segments=sends.sent_segments,
                received_segments=loads.received_segments,
                sends_completed=sends.num_completed,
                sends_failed=sends.num_failed,
                loads_completed=loads.num_completed,
                loads_failed=loads.num_failed,
                late_segments=loads.num_late_segments,
                rejected_messages=self._control.num_rejected,
                load_seconds=loads.load_seconds,
                exposed_seconds=sends.exposed_seconds,
                failures=failures,
            )

    def tickets(self) -> dict[bytes, int]:
        """Bytes of the paged cache that are held or awaited, by open ticket."""
        with self._lock:
            return self.sends.held() | self.loads.awaited()

    def introduce(self, addresses: Iterable[bytes]) -> None:
        """To be posted: these peers will be needed; the links to them are made now."""
        self._errands.extend(partial(self._greet, address) for address in addresses)

    def part(self, addresses: Iterable[bytes]) -> None:
        """To be posted: these peers are gone."""
        self._errands.extend(partial(self._lose, each, Cause.LINK_LOST) for each in addresses)

    def start_load(self, order: LoadOrder) -> None:
        """To be posted: opens a load and sends its demands."""
        if self.loads.open(order, time.monotonic()) and not self._is_broken:
            self._errands.append(partial(self._ask_for, order))

    def cancel_load(self, request_id: str) -> None:
        """To be posted: the engine has ended the request."""
        if order := self.loads.cancel(request_id):
            self.decline(order.ticket, order.load, order.source_addresses)

    def decline(self, ticket: bytes, load: bytes, source_addresses: Iterable[bytes]) -> None:
        """To be posted: this ticket will not be used."""
        if not self._is_broken:
            cancel = Cancel(ticket, load)
            self._errands.extend(partial(self._tell, each, cancel) for each in source_addresses)

    def fail_load(self, ticket: bytes, cause: Cause, reason: str) -> bool:
        """To be posted: the engine recomputes. False if there is no such load."""
        order = self.loads.fail(ticket, cause)
        if order is None:
            return False
        logger.warning(
            "KV from %s will not come (%s): %s; recomputing", order.source, cause, reason
        )
        linked = filter(self._links.find, order.source_addresses)
        self.decline(ticket, order.load, linked)
        return True

    def _ask_for(self, order: LoadOrder) -> None:
        for address in order.source_addresses:
            if not self.loads.is_open(order.ticket):
                return
            if link := self._links.get(address):
                self._control.tell(link, self._demand(order, link))
            else:
                self.fail_load(order.ticket, Cause.NO_ROUTE, "there is no way to its source")

    def _demand(self, order: LoadOrder, link: Link) -> Demand:
        return Demand(
            order.ticket,
            order.load,
            self.loads.rank,
            link.address,
            self.loads.layout.to_json(),
            order.first_token,
            order.num_tokens,
            self._max_payload_bytes,
            self._config.wire,
        )

    def _greet(self, address: bytes) -> None:
        if link := self._links.get(address):
            self._control.tell(link, Ping(link.address))

    def _tell(self, address: bytes, message: Message) -> None:
        self._control.tell(self._links.get(address), message)

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
            for message, link in self._control.take():
                self._obey(message, link)
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
            self.sends.close(Cause.BROKEN)
            self.loads.close(Cause.BROKEN)
        return has_any

    def _run_errands(self) -> bool:
        has_any = bool(self._errands)
        while self._errands:
            self._errands.popleft()()
        return has_any

    def _obey(self, message: Message, link: Link | None) -> None:
        now = time.monotonic()
        match message:
            case Demand():
                self._peers.heard_from(message.reply_address, now)
                self.sends.demand(message, now)
            case Cancel():
                self.sends.cancel(message.ticket, message.load)
            case Refuse():
                if self.loads.is_load(message.ticket, message.load):
                    self.fail_load(message.ticket, message.cause, message.reason)
            case Ping():
                self._peers.heard_from(message.reply_address, now)
                self._tell(message.reply_address, Pong())
            case Pong():
                self._peers.heard_on(link, now)
            case Left():
                self._lose(message.address, Cause.LINK_LOST)

    def _expire(self, now: float) -> None:
        self.sends.expire(now)
        for ticket in self.loads.expired(now):
            self.fail_load(ticket, Cause.EXPIRED, "nothing came for its lease")
        for refusal in self.sends.take_refusals():
            self._tell(refusal.reply_address, refusal.message)
        self._look_after_links(now)

    def _look_after_links(self, now: float) -> None:
        stalled_since = self._stalled_since(now)
        for part in (self._sender, self._receiver, self._control):
            for link in part.take_live_links():
                self._peers.heard_on(link, now)
            for link in part.take_bad_links(stalled_since):
                if address := self._links.address_of(link):
                    self._lose(address, Cause.LINK_LOST)
        for address, cause in self._peers.lost(now):
            self._lose(address, cause)
        for link, left in self._links.take_left():
            self._control.tell(link, Left(left))
        for address in self._peers.take_due(now):
            self._greet(address)

    def _stalled_since(self, now: float) -> float:
        """What has started before then and makes no way is the peer's fault: not if this process
        itself has stood still.
        """
        if now - self._looked_at > 2 * self._config.ping_seconds:
            self._patient_until = now + self._config.stall_seconds
        self._looked_at = now
        return now - self._config.stall_seconds if now >= self._patient_until else 0.0

    def _lose(self, address: bytes, cause: Cause) -> None:
        """What this peer was to bring is recomputed, what it was to get is freed."""
        self._links.drop(address)
        for ticket in self.loads.from_address(address):
            self.fail_load(ticket, cause, "its source is lost")
        self.sends.revoke_from(address, cause)

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
        watch = [self._peers.look_seconds] if any(d is not None for d in deadlines) else []
        return min([IDLE_SECONDS, *watch, *(max(BUSY_SECONDS, wait) for wait in waits)])
