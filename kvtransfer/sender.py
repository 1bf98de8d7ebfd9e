"""Packs what the send ledger chooses into staging slots and sends it."""

from __future__ import annotations

import time
from threading import Lock

from kvtransfer.cache import PagedCache
from kvtransfer.envelope import Envelope
from kvtransfer.flight import Flight, Flights
from kvtransfer.links import Links
from kvtransfer.seal import Seal
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.sends import Parcel, SendLedger
from kvtransfer.staging import StagingPool
from kvtransfer.transport import Kind, Link


class Sender:
    """The prefill side of the transfer thread. `lock` guards the ledger.

    One receiver holds at most half of the slots, so that a slow one does not hold up others.
    """

    def __init__(
        self,
        ledger: SendLedger,
        cache: PagedCache,
        pool: StagingPool,
        links: Links,
        seal: Seal,
        envelope: Envelope,
        lock: Lock,
    ) -> None:
        self._ledger = ledger
        self._cache = cache
        self._pool = pool
        self._links = links
        self._seal = seal
        self._envelope = envelope
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
            assert flight.parcel is not None
            self._done(flight.parcel, flight.operation.is_ok)
        return bool(done)

    def take_bad_links(self, before: float) -> set[Link]:
        """See `Flights`: here, those whose receiver does not take its segments."""
        return self._flights.take_bad_links(before)

    def take_live_links(self) -> set[Link]:
        return self._flights.take_live_links()

    def _send_next(self) -> bool:
        with self._lock:
            parcel = self._ledger.next_parcel(self._has_room)
            if parcel is None:
                return False
            slot = self._pool.acquire()
            self._cache.pack(parcel.cut, slot[HEADER_BYTES : _size(parcel)])
        message = slot[: _size(parcel)]
        seed = self._seal.seed(parcel.segment.ticket)
        self._envelope.seal(parcel.segment, message, seed)
        link = self._links.get(parcel.reply_address)
        if link is None:
            self._pool.release(slot)
            self._done(parcel, is_ok=False)
            return True
        operation = link.send(Kind.SEGMENT, message)
        self._flights.add(Flight(operation, slot, len(message), link, time.monotonic(), parcel))
        return True

    def _has_room(self, reply_address: bytes) -> bool:
        link = self._links.find(reply_address)
        return link is None or self._flights.num_on(link) < self._pool.fair_share

    def _done(self, parcel: Parcel, is_ok: bool) -> None:
        with self._lock:
            self._ledger.segment_done(parcel, is_ok, time.monotonic())


def _size(parcel: Parcel) -> int:
    return HEADER_BYTES + parcel.segment.payload_bytes
