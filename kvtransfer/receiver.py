"""Takes segments into staging slots, and from there into the paged cache."""

from __future__ import annotations

import logging
import time
from collections import deque
from threading import Lock

from kvtransfer.cache import PagedCache
from kvtransfer.errors import MalformedMessage
from kvtransfer.flight import Flight, Flights
from kvtransfer.links import Links
from kvtransfer.loads import LoadLedger
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.staging import StagingPool
from kvtransfer.transport import Arrival, Kind, Link

logger = logging.getLogger("vllm.baton.receiver")


class Receiver:
    """The decode side of the transfer thread. `lock` guards the ledger.

    Only a segment that an open load asked for is copied into the paged cache, and only by
    this thread; so a late or repeated message can never touch blocks that were given away.
    """

    def __init__(
        self,
        ledger: LoadLedger,
        cache: PagedCache,
        pool: StagingPool,
        links: Links,
        lock: Lock,
    ) -> None:
        self._ledger = ledger
        self._cache = cache
        self._pool = pool
        self._links = links
        self._lock = lock
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
            if arrival := link.probe(Kind.SEGMENT):
                self._receive(arrival, link)
                turn.append(link)
        return self._num_taken > num_before

    def finish(self) -> bool:
        """Puts what has been received where it belongs."""
        done = self._flights.take_done()
        for flight in done:
            if flight.operation.is_ok and not self._store(flight):
                self._flights.blame(flight.link)
            self._pool.release(flight.buffer)
        return bool(done)

    def take_bad_links(self, before: float) -> set[Link]:
        """See `Flights`: here, those whose segments do not come, or come damaged."""
        return self._flights.take_bad_links(before)

    def _receive(self, arrival: Arrival, link: Link) -> None:
        slot = self._pool.acquire()
        operation = arrival.receive(slot)
        self._flights.add(Flight(operation, slot, arrival.num_bytes, link, time.monotonic()))
        self._num_taken += 1

    def _store(self, flight: Flight) -> bool:
        """False if it is no segment; one that nobody waits for is dropped."""
        message = flight.buffer[: flight.num_bytes]
        try:
            segment = Segment.read(message)
        except MalformedMessage as error:
            logger.warning("%s", error)
            return False
        with self._lock:
            if blocks := self._ledger.blocks_of(segment):
                self._cache.unpack(segment.layer, blocks, message[HEADER_BYTES:])
                self._ledger.landed(segment, time.monotonic())
        return True
