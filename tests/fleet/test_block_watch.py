"""Workers that report, gateways that follow, and a real server between them that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from fleet.backoff import Backoff
from fleet.block_log import Reading
from fleet.block_news import Snapshot, pack
from fleet.block_reporter import BlockReporter
from fleet.block_watch import BlockWatch
from fleet.held_blocks import HeldBlocks
from fleet.redis_block_log import RedisBlockLog
from fleet.tier import Tier
from tests.fleet.builders import eventually
from tests.fleet.server import RunningServer, RunningValkey

LEASE_SECONDS = 0.6


class Reporting:
    """A worker that holds blocks and says so."""

    def __init__(self, log: RedisBlockLog, worker: str) -> None:
        self.held = HeldBlocks(worker)
        self.reporter = BlockReporter(log, self.held, LEASE_SECONDS, quick())

    def store(self, keys: Iterable[int], tier: Tier = Tier.DEVICE) -> None:
        self.held.store(tier, keys)
        self.reporter.note()

    def remove(self, keys: Iterable[int]) -> None:
        self.held.remove(Tier.DEVICE, keys)
        self.reporter.note()


def quick() -> Backoff:
    return Backoff(first_seconds=0.02, last_seconds=0.05)


@asynccontextmanager
async def reporting(url: str, fleet: str, worker: str) -> AsyncIterator[Reporting]:
    async with RedisBlockLog.connect(url, fleet) as log:
        worker_side = Reporting(log, worker)
        running = asyncio.ensure_future(worker_side.reporter.run())
        try:
            yield worker_side
        finally:
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()


@asynccontextmanager
async def watching(
    url: str, fleet: str, *workers: str, max_length: int = 1 << 16
) -> AsyncIterator[BlockWatch]:
    async with RedisBlockLog.connect(url, fleet) as log:
        log._max_length = max_length
        watch = BlockWatch(log, backoff=quick())
        for worker in workers:
            watch.meet(worker)
        running = asyncio.ensure_future(watch.run())
        try:
            yield watch
        finally:
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()


async def knows(watch: BlockWatch, worker: str, keys: Iterable[int], num_blocks: int) -> None:
    """Until of these blocks the first `num_blocks` are known to be held by the worker."""
    prompt = np.array(list(keys), np.uint64)

    async def holds() -> bool:
        found = watch.replica.match(prompt).anywhere[watch.replica.rows[worker]]
        return bool(found == num_blocks) and watch.is_current

    await eventually(holds)


async def test_every_gateway_follows_every_worker(valkey: RunningServer, fleet: str) -> None:
    async with (
        reporting(valkey.url, fleet, "a/1") as a,
        reporting(valkey.url, fleet, "b/1") as b,
        watching(valkey.url, fleet, "a/1", "b/1") as one,
        watching(valkey.url, fleet, "a/1", "b/1") as other,
    ):
        a.store([1, 2, 3])
        b.store([1], Tier.HOST)
        for watch in (one, other):
            await knows(watch, "a/1", [1, 2, 3, 4], 3)
            await knows(watch, "b/1", [1, 2, 3, 4], 1)
        a.remove([2])
        for watch in (one, other):
            await knows(watch, "a/1", [1, 2, 3, 4], 1)


async def test_a_gateway_that_comes_late_knows_what_was_before(
    valkey: RunningServer, fleet: str
) -> None:
    async with reporting(valkey.url, fleet, "a/1") as a:
        a.store([1])
        async with watching(valkey.url, fleet, "a/1") as watch:
            await knows(watch, "a/1", [1], 1)
            a.store(range(2, 1001))
            await knows(watch, "a/1", range(1, 1001), 1000)
            # Told after the last snapshot: a late one finds it in the log.
            async with watching(valkey.url, fleet, "a/1") as late:
                await knows(late, "a/1", range(1, 1001), 1000)


async def test_who_is_met_late_is_known_whole(valkey: RunningServer, fleet: str) -> None:
    async with (
        reporting(valkey.url, fleet, "a/1") as a,
        reporting(valkey.url, fleet, "b/1"),
        watching(valkey.url, fleet, "b/1") as watch,
    ):
        a.store([1])
        async with watching(valkey.url, fleet, "a/1") as other:
            await knows(other, "a/1", [1], 1)
        watch.meet("a/1")
        await knows(watch, "a/1", [1], 1)


async def test_a_server_that_loses_everything_is_told_everything_again(
    own_valkey: RunningValkey, fleet: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        reporting(own_valkey.url, fleet, "a/1") as a,
        watching(own_valkey.url, fleet, "a/1") as watch,
    ):
        a.store([1, 2])
        await knows(watch, "a/1", [1, 2, 3, 4], 2)
        own_valkey.stop()
        a.store([3])
        a.remove([2])
        await asyncio.sleep(0.3)
        assert not watch.is_current
        assert watch.replica.match(np.array([1], np.uint64)).anywhere[0] == 1
        own_valkey.start()
        await knows(watch, "a/1", [1, 3], 2)
        await knows(watch, "a/1", [2], 0)
    outages = [each for each in caplog.messages if "is unreachable" in each]
    assert len(outages) == 2


async def test_a_reader_that_falls_behind_reads_snapshots(
    own_valkey: RunningValkey, fleet: str
) -> None:
    async with RedisBlockLog.connect(own_valkey.url, fleet) as log:
        log._max_length = 4
        worker = Reporting(log, "a/1")
        running = asyncio.ensure_future(worker.reporter.run())
        async with watching(own_valkey.url, fleet, "a/1") as watch:
            worker.store([1])
            await knows(watch, "a/1", [1], 1)
            watch._place = "1-1"  # as if it had last read long ago
            worker.store([2])
            await knows(watch, "a/1", [1, 2], 2)
        running.cancel()
        await asyncio.wait([running])


class Snapshots:
    """A log of workers that have told everything in them. `asked`: for how many at once."""

    def __init__(self, workers: Iterable[str]) -> None:
        self.asked: list[int] = []
        self._known = {each: Snapshot(each, 1, {Tier.DEVICE: pack([1])}) for each in workers}

    async def snapshots(self, workers: Sequence[str]) -> tuple[Snapshot, ...]:
        self.asked.append(len(workers))
        return tuple(self._known[worker] for worker in workers)

    async def end(self, seconds_before: float = 0.0) -> str:
        return "here"

    async def read(self, place: str, wait_seconds: float) -> Reading:
        await asyncio.Event().wait()
        raise AssertionError

    async def lag_seconds(self, place: str) -> float:
        return 0.0


async def test_snapshots_are_asked_for_a_few_at_a_time_and_others_have_turns_between() -> None:
    workers = [f"w{number}/1" for number in range(20)]
    log = Snapshots(workers)
    watch = BlockWatch(log)
    for worker in workers:
        watch.meet(worker)
    running = asyncio.ensure_future(watch.run())
    num_known = [0]
    while num_known[-1] < len(workers):
        await asyncio.sleep(0)
        num_known.append(sum(map(watch.replica.is_whole, workers)))
    running.cancel()
    await asyncio.wait([running])
    assert log.asked == [8, 8, 4]
    assert max(np.diff(num_known)) == 1


async def test_a_worker_that_stops_leaves_nothing_and_one_that_dies_runs_out(
    valkey: RunningServer, fleet: str
) -> None:
    async with RedisBlockLog.connect(valkey.url, fleet) as log:
        async with reporting(valkey.url, fleet, "a/1") as a:
            a.store([1])
            await eventually(lambda: has_snapshot(log, "a/1"))
        assert await log.snapshots(["a/1"]) == ()
        await log.put(HeldBlocks("b/1").snapshot(), LEASE_SECONDS)
        await eventually(lambda: has_no_snapshot(log, "b/1"))


async def test_a_snapshot_is_kept_alive_and_kept_up_to_date(
    valkey: RunningServer, fleet: str
) -> None:
    async with (
        RedisBlockLog.connect(valkey.url, fleet) as log,
        reporting(valkey.url, fleet, "a/1") as a,
    ):
        a.store([1])
        await asyncio.sleep(2 * LEASE_SECONDS)
        (snapshot,) = await log.snapshots(["a/1"])
        assert len(snapshot.tiers[Tier.DEVICE]) == 8
        assert snapshot.number == a.held.number


async def has_snapshot(log: RedisBlockLog, worker: str) -> bool:
    return bool(await log.snapshots([worker]))


async def has_no_snapshot(log: RedisBlockLog, worker: str) -> bool:
    return not await log.snapshots([worker])
