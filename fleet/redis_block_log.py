"""The log of blocks over the Redis protocol."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from fleet.block_log import Reading
from fleet.block_news import Batch, Snapshot, decode_batch, decode_snapshot, encode
from fleet.connection import bounded
from fleet.redis_client import RedisClient, milliseconds, text

logger = logging.getLogger(__name__)

# Batches. A worker's snapshot must be younger than the oldest of them.
MAX_LENGTH = 1 << 16
MIN_LENGTH = 1 << 9
# A quarter of what the embedded server may take.
MAX_BYTES = 1 << 26
# A batch's weight in the average of their sizes.
WEIGHT = 1 / 32
MAX_READ = 1024
# After the last batch of a fleet that is gone.
LOG_SECONDS = 3600
BATCH = "b"
START = "0-0"


class RedisBlockLog(RedisClient):
    """A stream, trimmed, and a string with a TTL for each worker's snapshot: see FleetKeys.

    A full server takes no lease either, so the stream is bounded to about `max_bytes`, though
    servers trim by number alone. Each writer lets as many batches stay as would fill `max_bytes`
    if all were as large as its own are on average: whoever writes large ones cuts the log for all.
    So each writer's own batches take about `max_bytes` at most, and all together about that if
    they are alike, twice that if some are much larger than others. MIN_LENGTH batches stay in any
    case, `max_length` at most; one that is too large for MIN_LENGTH of its kind counts as just not
    too large, so that a single one does not cut the log down.
    """

    def __init__(
        self,
        client: Redis,
        fleet: str,
        server: str = "redis",
        max_length: int = MAX_LENGTH,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(client, fleet, server)
        self._max_length = max_length
        self._max_bytes = max_bytes
        self._mean_bytes = 0.0
        self._has_complained = False

    async def tell(self, batch: Batch) -> None:
        data = encode(batch)
        length = self._length_with(len(data))
        async with bounded(self._server), self._client.pipeline(transaction=False) as pipe:
            pipe.xadd(self._keys.block_log, {BATCH: data}, maxlen=length, approximate=True)
            pipe.expire(self._keys.block_log, LOG_SECONDS)
            await pipe.execute()

    async def put(self, snapshot: Snapshot, lease_seconds: float) -> None:
        async with bounded(self._server):
            key = self._keys.blocks(snapshot.worker)
            await self._client.set(key, encode(snapshot), px=milliseconds(lease_seconds))

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        async with bounded(self._server):
            key = self._keys.blocks(worker)
            return bool(await self._client.pexpire(key, milliseconds(lease_seconds)))

    async def drop(self, worker: str) -> None:
        async with bounded(self._server):
            await self._client.delete(self._keys.blocks(worker))

    async def snapshots(self, workers: Sequence[str]) -> tuple[Snapshot, ...]:
        if not workers:
            return ()
        async with bounded(self._server):
            found = await self._client.mget([self._keys.blocks(each) for each in workers])
        decoded = (self._decode(decode_snapshot, data) for data in found if data is not None)
        return tuple(each for each in decoded if isinstance(each, Snapshot))

    async def end(self, seconds_before: float = 0.0) -> str:
        async with bounded(self._server):
            last = await self._client.xrevrange(self._keys.block_log, count=1)
            oldest = await self._client.xrange(self._keys.block_log, count=1)
        if not last or not oldest:
            return START
        if not seconds_before:
            return first_name(last)
        # An entry's id begins with the server's time in milliseconds.
        time, _ = number_of(first_name(last))
        place = f"{max(0, time - milliseconds(seconds_before))}-0"
        return place if number_of(place) > number_of(first_name(oldest)) else START

    async def read(self, place: str, wait_seconds: float) -> Reading:
        log = self._keys.block_log
        async with bounded(self._server):
            block = milliseconds(min(wait_seconds, 2.0)) if wait_seconds > 0 else None
            found = await self._client.xread({log: place}, count=MAX_READ, block=block)
            oldest = await self._client.xrange(log, count=1)
        entries = entries_of(found)
        batches = [self._decode(decode_batch, fields.get(BATCH.encode())) for _, fields in entries]
        last = entries[-1][0] if entries else place
        return Reading(
            tuple(each for each in batches if isinstance(each, Batch)),
            last if oldest else START,
            has_gap=place != START
            and (not oldest or number_of(first_name(oldest)) > number_of(place)),
        )

    async def lag_seconds(self, place: str) -> float:
        last, _ = number_of(await self.end())
        return max(0.0, (last - number_of(place)[0]) / 1000) if place != START else 0.0

    def _length_with(self, num_bytes: int) -> int:
        """How many batches may stay once one of so many bytes has been told."""
        counted = min(num_bytes, self._max_bytes / MIN_LENGTH)
        self._mean_bytes += (counted - self._mean_bytes) * WEIGHT
        fitting = int(self._max_bytes / max(self._mean_bytes, 1.0))
        return min(self._max_length, max(MIN_LENGTH, fitting))

    def _decode(self, decode: Any, data: bytes | str | None) -> Batch | Snapshot | None:
        try:
            found: Batch | Snapshot = decode(data or b"")
        except ValueError as error:
            if not self._has_complained:
                self._has_complained = True
                logger.warning("the fleet's log of blocks holds what is unreadable: %s", error)
            return None
        return found


def entries_of(found: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """Of one stream, in both versions of the protocol."""
    if not found:
        return []
    if isinstance(found, dict):
        ((entries,),) = found.values()
    else:
        ((_, entries),) = found
    return [(text(name), fields) for name, fields in entries]


def first_name(entries: Sequence[Sequence[Any]]) -> str:
    """The id of the first of a stream's entries."""
    return text(entries[0][0])


def number_of(name: str) -> tuple[int, int]:
    """An entry's id, to be compared."""
    first, _, second = name.partition("-")
    return int(first), int(second or 0)
