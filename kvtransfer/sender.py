"""Packs what the send ledger chooses into staging slots and sends it."""

from __future__ import annotations

import time
from threading import Lock

from kvtransfer.cache import PagedCache
from kvtransfer.flight import Flight, Flights
from kvtransfer.links import Links
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.sends import Parcel, SendLedger
from kvtransfer.staging import Slot, StagingPool
from kvtransfer.transport import Kind, Link


class Sender:
    """The prefill side of the transfer thread. `lock` guards the ledger."""

    def __init__(
        self, ledger: SendLedger, cache: PagedCache, pool: StagingPool, links: Links, lock: Lock
    ) -> None:
        self._ledger = ledger
        self._cache = cache
        self._pool = pool
        self._links = links
        self._lock = lock
        self._flights = Flights()

    @property
    def num_under_way(self) -> int:
        return len(self._flights)

    def pump(self) -> bool:
        """Sends while there is something to send and a slot for it."""
        moved = False
        while self._pool.num_free and self._send_next():
            moved = True
        return moved

    def finish(self) -> bool:
        """Gives back the slots of segments that have left."""
        done = self._flights.take_done()
        for flight in done:
            self._pool.release(flight.buffer)
            self._done(flight.segment, flight.operation.is_ok)
        return bool(done)

    def take_bad_links(self, before: float) -> set[Link]:
        """See `Flights`: here, those whose receiver does not take its segments."""
        return self._flights.take_bad_links(before)

    def _send_next(self) -> bool:
        with self._lock:
            parcel = self._ledger.next_parcel()
            if parcel is None:
                return False
            slot = self._pool.acquire()
            self._pack(parcel, slot)
        size = HEADER_BYTES + parcel.segment.payload_bytes
        link = self._links.get(parcel.reply_address)
        if link is None:
            self._pool.release(slot)
            self._done(parcel.segment, is_ok=False)
            return True
        operation = link.send(Kind.SEGMENT, slot[:size])
        self._flights.add(Flight(operation, slot, size, link, time.monotonic(), parcel.segment))
        return True

    def _pack(self, parcel: Parcel, slot: Slot) -> None:
        segment = parcel.segment
        segment.write_header(slot)
        payload = slot[HEADER_BYTES : HEADER_BYTES + segment.payload_bytes]
        self._cache.pack(segment.layer, parcel.block_ids, payload)

    def _done(self, segment: Segment | None, is_ok: bool) -> None:
        if segment is not None:
            with self._lock:
                self._ledger.segment_done(segment, is_ok, time.monotonic())
