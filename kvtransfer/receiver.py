"""Takes segments into staging slots, and from there into the paged cache."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from kvtransfer.cache import PagedCache
from kvtransfer.causes import Cause
from kvtransfer.complaints import Complaints
from kvtransfer.envelope import Envelope
from kvtransfer.errors import MalformedMessage
from kvtransfer.flight import Flight, Flights
from kvtransfer.links import Links
from kvtransfer.loads import LoadLedger
from kvtransfer.seal import Seal
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.staging import Slot, StagingPool
from kvtransfer.transport import Arrival, Kind, Link

logger = logging.getLogger("vllm.baton.receiver")

Fail = Callable[[bytes, Cause, str], object]


class Receiver:
    """The decode side of the transfer thread. `lock` guards the ledger; `fail` ends a load.

    Only an intact segment that an open load asked for is copied into the paged cache, and only
    by this thread; so a late or repeated message can never touch blocks that were given away.
    One link holds at most half of the slots.
    """

    def __init__(
        self,
        ledger: LoadLedger,
        cache: PagedCache,
        pool: StagingPool,
        links: Links,
        seal: Seal,
        envelope: Envelope,
        lock: Lock,
        fail: Fail,
    ) -> None:
        self._ledger = ledger
        self._cache = cache
        self._pool = pool
        self._links = links
        self._seal = seal
        self._envelope = envelope
        self._lock = lock
        self._fail = fail
        self._complaints = Complaints(logger)
        self._flights = Flights()
        self._num_taken = 0

    @property
    def num_under_way(self) -> int:
        return len(self._flights)

    def take(self) -> bool:
        """Starts receiving what has come, the links in turn, while there are slots for it."""
        num_before = self._num_taken
        turn = deque(self._links)
        turn.rotate(-self._num_taken)
        while turn and self._pool.num_free:
            link = turn.popleft()
            if self._flights.num_on(link) >= self._pool.fair_share:
                continue
            if arrival := link.probe(Kind.SEGMENT):
                self._receive(arrival, link)
                turn.append(link)
        return self._num_taken > num_before

    def finish(self) -> bool:
        """Puts what has been received where it belongs."""
        done = self._flights.take_done()
        for flight in done:
            if flight.operation.is_ok and not self._store(flight.buffer[: flight.num_bytes]):
                self._flights.blame(flight.link)
            self._pool.release(flight.buffer)
        return bool(done)

    def take_bad_links(self, before: float) -> set[Link]:
        """See `Flights`: here, those whose segments do not come, or are none."""
        return self._flights.take_bad_links(before)

    def take_live_links(self) -> set[Link]:
        return self._flights.take_live_links()

    def _receive(self, arrival: Arrival, link: Link) -> None:
        slot = self._pool.acquire()
        operation = arrival.receive(slot)
        self._flights.add(Flight(operation, slot, arrival.num_bytes, link, time.monotonic()))
        self._num_taken += 1

    def _store(self, message: Slot) -> bool:
        """False if it is none of ours; one that nobody waits for is dropped."""
        try:
            segment = self._envelope.read(message)
        except MalformedMessage as error:
            self._complaints.add(str(error))
            return False
        is_good = self._envelope.is_intact(message, self._seal.seed(segment.ticket))
        with self._lock:
            if is_good:
                self._land(segment, message)
            elif self._ledger.is_open(segment.ticket):
                self._fail(segment.ticket, Cause.CHECKSUM, "a segment was damaged on its way")
            else:
                return False
        return True

    def _land(self, segment: Segment, message: Slot) -> None:
        try:
            place = self._ledger.place_of(segment)
        except MalformedMessage as error:
            self._fail(segment.ticket, Cause.MALFORMED, str(error))
            return
        if place is not None:
            self._cache.unpack(place, segment.wire, message[HEADER_BYTES:])
            self._ledger.landed(segment, time.monotonic())
