"""The contract of BlockLog, over every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from fleet.block_news import Batch, Snapshot, Stored, pack
from fleet.connection import connect
from fleet.errors import FleetUnavailable
from fleet.held_blocks import parts
from fleet.redis_block_log import MIN_LENGTH, RedisBlockLog
from fleet.tier import Tier
from tests.fleet.builders import eventually
from tests.fleet.server import RunningServer, RunningValkey

LONG = 60.0
FEW = 16
MAX_BYTES = 1 << 22


def batch(number: int, worker: str = "a/1") -> Batch:
    return Batch(worker, number, (Stored(Tier.DEVICE, pack([number])),))


def snapshot(number: int, worker: str = "a/1") -> Snapshot:
    return Snapshot(worker, number, {Tier.DEVICE: pack([1, 2])})


@pytest.fixture
async def log(
    connect_redis: Callable[[], Redis], fleet: str, stack: AsyncExitStack
) -> RedisBlockLog:
    """Each implementation; the log is cut after a few batches."""
    return await stack.enter_async_context(RedisBlockLog(connect_redis(), fleet, max_length=FEW))


async def test_what_is_told_is_read_once_and_in_order(log: RedisBlockLog) -> None:
    place = await log.end()
    for number in (1, 2, 3):
        await log.tell(batch(number))
    reading = await log.read(place, 0.0)
    assert reading.batches == (batch(1), batch(2), batch(3))
    assert not reading.has_gap
    assert (await log.read(reading.place, 0.0)).batches == ()
    assert await log.end() == reading.place


async def test_who_begins_at_the_end_reads_only_what_is_new(log: RedisBlockLog) -> None:
    await log.tell(batch(1))
    place = await log.end()
    await log.tell(batch(2))
    assert (await log.read(place, 0.0)).batches == (batch(2),)


async def test_who_goes_back_reads_what_was_told_lately(log: RedisBlockLog) -> None:
    assert await log.end(LONG) == await log.end()
    await log.tell(batch(1))
    await asyncio.sleep(0.2)
    await log.tell(batch(2))
    assert (await log.read(await log.end(0.1), 0.0)).batches == (batch(2),)
    reading = await log.read(await log.end(LONG), 0.0)
    assert reading.batches == (batch(1), batch(2))
    assert not reading.has_gap


async def test_a_reader_waits_for_news(log: RedisBlockLog) -> None:
    await log.tell(batch(1))
    place = await log.end()
    reading = asyncio.ensure_future(log.read(place, 2.0))
    await asyncio.sleep(0.05)
    await log.tell(batch(2))
    assert (await reading).batches == (batch(2),)


async def test_the_log_is_bounded_and_who_fell_behind_is_told(log: RedisBlockLog) -> None:
    await log.tell(batch(1))
    place = await log.end()
    for number in range(2, 1000):
        await log.tell(batch(number))
    reading = await log.read(place, 0.0)
    assert reading.has_gap
    assert len(reading.batches) < 500
    assert reading.batches[-1] == batch(999)
    assert not (await log.read(reading.place, 0.0)).has_gap


async def test_a_log_that_is_gone_is_a_gap_once_and_what_comes_later_is_read(
    log: RedisBlockLog,
) -> None:
    await log.tell(batch(1))
    place = await log.end()
    await log._client.delete(log._keys.block_log)
    reading = await log.read(place, 0.0)
    assert reading.has_gap
    for _ in range(2):
        reading = await log.read(reading.place, 0.0)
        assert (reading.batches, reading.has_gap) == ((), False)
    await log.tell(batch(2))
    reading = await log.read(reading.place, 0.0)
    assert (reading.batches, reading.has_gap) == ((batch(2),), False)
    assert not (await log.read(reading.place, 0.0)).has_gap


async def test_snapshots_are_found_by_worker(log: RedisBlockLog) -> None:
    await log.put(snapshot(1), LONG)
    await log.put(snapshot(5), LONG)
    await log.put(snapshot(2, "b/1"), LONG)
    found = await log.snapshots(["b/1", "a/1", "nobody/1"])
    assert found == (snapshot(2, "b/1"), snapshot(5))
    assert await log.snapshots([]) == ()


async def test_a_snapshot_lives_as_long_as_its_lease(log: RedisBlockLog) -> None:
    await log.put(snapshot(1), 0.2)
    assert await log.renew("a/1", LONG)
    await log.put(snapshot(1, "b/1"), 0.05)
    await eventually(lambda: gone(log, "b/1"))
    assert not await log.renew("b/1", LONG)
    await asyncio.sleep(0.2)
    assert await log.snapshots(["a/1", "b/1"]) == (snapshot(1),)
    await log.drop("a/1")
    await log.drop("a/1")
    assert await log.snapshots(["a/1"]) == ()


async def gone(log: RedisBlockLog, worker: str) -> bool:
    return not await log.snapshots([worker])


async def test_fleets_do_not_see_each_other(valkey: RunningServer, fleet: str) -> None:
    async with (
        RedisBlockLog.connect(valkey.url, fleet) as ours,
        RedisBlockLog.connect(valkey.url, f"{fleet}-other") as theirs,
    ):
        place = await theirs.end()
        await ours.tell(batch(1))
        await ours.put(snapshot(1), LONG)
        assert (await theirs.read(place, 0.0)).batches == ()
        assert await theirs.snapshots(["a/1"]) == ()


async def test_what_is_unreadable_is_passed_over(valkey: RunningServer, fleet: str) -> None:
    async with RedisBlockLog.connect(valkey.url, fleet) as log:
        place = await log.end()
        client = connect(valkey.url)
        await client.xadd(log._keys.block_log, {"b": b"nonsense"})
        await client.xadd(log._keys.block_log, {"other": b"field"})
        await client.set(log._keys.blocks("a/1"), b"nonsense")
        await client.aclose()
        await log.tell(batch(1))
        assert (await log.read(place, 0.0)).batches == (batch(1),)
        assert await log.snapshots(["a/1"]) == ()


async def test_a_server_that_has_lost_its_state_shows_as_a_gap(
    own_valkey: RunningValkey, fleet: str
) -> None:
    async with RedisBlockLog.connect(own_valkey.url, fleet) as log:
        await log.tell(batch(1))
        place = await log.end()
        own_valkey.stop()
        with pytest.raises(FleetUnavailable):
            await log.read(place, 0.0)
        own_valkey.start()
        reading = await log.read(place, 0.0)
        assert reading.has_gap
        assert not (await log.read(reading.place, 0.0)).has_gap


def batch_of(num_blocks: int) -> Batch:
    keys = range(1, num_blocks + 1)
    return Batch("a/1", 1, tuple(Stored(Tier.DEVICE, pack(part)) for part in parts(keys)))


async def test_the_log_is_bounded_by_its_bytes(valkey: RunningServer, fleet: str) -> None:
    async with RedisBlockLog(connect(valkey.url), fleet, max_bytes=MAX_BYTES) as log:
        for _ in range(2000):
            await log.tell(batch_of(768))
        num_bytes = await log._client.memory_usage(log._keys.block_log) or 0
        assert MAX_BYTES / 2 < num_bytes < MAX_BYTES * 1.5


async def test_a_single_large_batch_does_not_cut_the_log(valkey: RunningServer, fleet: str) -> None:
    async with RedisBlockLog(connect(valkey.url), fleet, max_bytes=MAX_BYTES) as log:
        for _ in range(1000):
            await log.tell(batch_of(1))
        await log.tell(batch_of(100_000))
        assert await log._client.xlen(log._keys.block_log) == 1001


async def test_of_batches_that_are_too_large_some_hundreds_are_kept(
    valkey: RunningServer, fleet: str
) -> None:
    async with RedisBlockLog(connect(valkey.url), fleet, max_bytes=MIN_LENGTH) as log:
        for _ in range(2 * MIN_LENGTH):
            await log.tell(batch_of(768))
        assert await log._client.xlen(log._keys.block_log) == MIN_LENGTH
