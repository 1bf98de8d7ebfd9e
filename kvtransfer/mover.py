"""The transfer thread of one engine rank: does the I/O that the two ledgers decide on."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kvtransfer.cache import PagedCache
from kvtransfer.causes import Cause
from kvtransfer.control import ControlChannel
from kvtransfer.delivery import Source
from kvtransfer.dialogue import Dialogue
from kvtransfer.envelope import Envelope, HostEnvelope
from kvtransfer.ledgers import Ledgers
from kvtransfer.links import Links
from kvtransfer.loads import LoadLedger
from kvtransfer.mover_config import MoverConfig, Slots
from kvtransfer.peers import Peers
from kvtransfer.receiver import Receiver
from kvtransfer.seal import Seal
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
class Finished:
    """What the engine is to be told: request ids by how their transfer ended."""

    sent: list[str]
    completed: list[str]
    failed: list[str]
    cancelled: list[str]


def slots_of(config: MoverConfig, cache: PagedCache) -> Slots:
    """Of one direction. Raises StagingTooSmall."""
    return config.slots(cache.layout.shard(cache.rank).num_heads * cache.layout.head_bytes)


class Mover:
    """Owns the transport, the staging slots and both ledgers.

    The engine's thread calls `post`, `forget_blocks`, `take_finished`, `revoke`, `stats` and
    `tickets`; none of them waits for the network, nor for a link that is made or closed.

    Raises StagingTooSmall.
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
        slots = slots_of(config, cache)
        max_payload_bytes = slots.num_bytes - HEADER_BYTES
        self.transport = transport
        source = Source(cache.layout, cache.rank, max_payload_bytes, config.wire)
        self.sends = SendLedger(source)
        self.loads = LoadLedger(cache.layout, cache.rank)
        ledgers = Ledgers(self.sends, self.loads)
        self._lock = lock = ledgers.lock
        self._links = links = Links(transport)
        self._control = ControlChannel(transport, links, seal)
        self._peers = Peers(links, ledgers, config)
        self.dialogue = Dialogue(
            links, self._control, self._peers, ledgers, max_payload_bytes, config.wire
        )
        self._pools = [StagingPool(slots.number, slots.num_bytes, allocate) for _ in range(2)]
        self._sender = Sender(self.sends, cache, self._pools[0], links, seal, envelope, lock)
        self._receiver = Receiver(
            self.loads, cache, self._pools[1], links, seal, envelope, lock, self.dialogue.fail_load
        )
        self._inbox: deque[Callable[[], object]] = deque()
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
            had_load = self.dialogue.fail_load(ticket, Cause.REVOKED, reason)
            had_send = self.sends.revoke(ticket, Cause.REVOKED, reason)
        self.transport.wake()
        return had_load or had_send

    def stats(self) -> Transfers:
        with self._lock:
            sends, loads = self.sends, self.loads
            failures = {f"send_{cause}": n for cause, n in sends.failures.items()}
            failures |= {f"load_{cause}": n for cause, n in loads.failures.items()}
            failures |= {f"demand_{cause}": n for cause, n in sends.refused.items()}
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

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._turn():
                    self._sleep()
        except Exception:
            logger.exception("the transfer thread has failed; from now on every load is recomputed")
            with self._lock:
                self._is_broken = True
                self.dialogue.close()
                self._run_inbox()
        finally:
            self._links.close()
            self.transport.close()

    def _turn(self) -> bool:
        """One round of everything there is to do. True if anything was done."""
        moved = self.transport.poll(0)
        now = time.monotonic()
        with self._lock:
            moved |= self._run_inbox()
            self._expire(now)
        moved |= self.dialogue.turn()
        moved |= self._look_after_links(now)
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

    def _expire(self, now: float) -> None:
        self.sends.expire(now)
        for ticket in self.loads.expired(now):
            self.dialogue.fail_load(ticket, Cause.EXPIRED, "nothing came for its lease")

    def _look_after_links(self, now: float) -> bool:
        """True if a peer was lost: others may have to be told."""
        lost = list(self._peers.lost(now, (self._sender, self._receiver, self._control)))
        for address, cause in lost:
            self.dialogue.lose(address, cause)
        self.dialogue.tell_left()
        for address in self._peers.take_due(now):
            self.dialogue.greet(address)
        return bool(lost)

    def _sleep(self) -> None:
        self._is_asleep = True
        if not self._inbox and not self.dialogue.is_owed and not self._stopping.is_set():
            self.transport.poll(self._sleep_seconds())
        self._is_asleep = False

    def _sleep_seconds(self) -> float:
        flights = self._sender.num_under_way + self._receiver.num_under_way
        if flights + self._control.num_under_way:
            return BUSY_SECONDS
        with self._lock:
            deadlines = (self.sends.next_deadline(), self.loads.next_deadline())
        waits = [deadline - time.monotonic() for deadline in deadlines if deadline is not None]
        watch = [self._peers.look_seconds] if any(d is not None for d in deadlines) else []
        return min([IDLE_SECONDS, *watch, *(max(BUSY_SECONDS, wait) for wait in waits)])
