from __future__ import annotations

import asyncio

import pytest
from fakeredis.aioredis import FakeRedis

from fleet.block_replica import BlockReplica
from fleet.redis_block_log import RedisBlockLog
from fleet.tier import Tier
from tests.fleet.builders import eventually
from tests.worker.scripted_engine import ScriptedEngine
from worker.block_change import BlockChange, Kind
from worker.block_teller import BlockTeller


async def test_what_changes_in_an_engines_cache_is_told_until_the_worker_ends() -> None:
    engine, replica = ScriptedEngine(), BlockReplica()
    replica.meet("w/1")
    async with RedisBlockLog(FakeRedis(), "fleet") as log:
        telling = asyncio.ensure_future(BlockTeller(engine, log, "w/1").run())
        await eventually(lambda: has_snapshot(log))
        engine.changes.put_nowait(BlockChange(Kind.STORED, Tier.DEVICE, [1, 2]))
        engine.changes.put_nowait(BlockChange(Kind.STORED, Tier.DISK, [1, 2, 3]))
        engine.changes.put_nowait(BlockChange(Kind.REMOVED, Tier.DEVICE, [1]))
        engine.changes.put_nowait(BlockChange(Kind.STORED, Tier.HOST, [1]))
        engine.changes.put_nowait(BlockChange(Kind.CLEARED, Tier.DISK))
        place = "0-0"

        async def is_known() -> bool:
            nonlocal place
            for snapshot in await log.snapshots(["w/1"]):
                replica.learn(snapshot)
            reading = await log.read(place, 0.0)
            place = reading.place
            for batch in reading.batches:
                replica.hear(batch)
            return [replica.table.num_held(0, tier) for tier in Tier] == [1, 1, 0, 0]

        await eventually(is_known)
        telling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await telling
        assert not await log.snapshots(["w/1"])


async def has_snapshot(log: RedisBlockLog) -> bool:
    return bool(await log.snapshots(["w/1"]))
