from __future__ import annotations

import asyncio

import pytest
from fakeredis.aioredis import FakeRedis

from fleet.block_news import Removed, Stored, pack
from fleet.redis_block_log import RedisBlockLog
from fleet.tier import Tier
from tests.fleet.builders import eventually
from tests.worker.scripted_engine import ScriptedEngine
from worker.block_change import BlockChange, Kind
from worker.block_teller import BlockTeller


async def test_what_changes_in_an_engines_cache_is_told_until_the_worker_ends() -> None:
    engine = ScriptedEngine()
    async with RedisBlockLog(FakeRedis(), "fleet") as log:
        telling = asyncio.ensure_future(BlockTeller(engine, log, "w/1").run())
        engine.changes.put_nowait(BlockChange(Kind.STORED, Tier.DEVICE, [1, 2]))
        engine.changes.put_nowait(BlockChange(Kind.REMOVED, Tier.DEVICE, [1]))
        engine.changes.put_nowait(BlockChange(Kind.STORED, Tier.HOST, [1]))
        engine.changes.put_nowait(BlockChange(Kind.CLEARED, Tier.HOST))

        async def is_told() -> bool:
            told = [each for batch in (await log.read("0-0", 0.0)).batches for each in batch.news]
            return (
                told[:2]
                == [
                    Stored(Tier.DEVICE, pack([1, 2])),
                    Removed(Tier.DEVICE, pack([1])),
                ]
                or len(told) == 4
            )

        await eventually(is_told)
        assert await log.snapshots(["w/1"])
        telling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await telling
        assert not await log.snapshots(["w/1"])
