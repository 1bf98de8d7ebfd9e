from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fleet import connection
from fleet.block_news import Batch
from fleet.connection import MAX_CONNECTIONS
from fleet.errors import FleetUnavailable
from fleet.redis_block_log import START, RedisBlockLog
from tests.fleet.server import RunningServer
from tests.fleet.tls import HOST, Authority, tls_before

NUM_CALLS = 50
BATCH = Batch("a/1", 1, ())


async def check_many_calls(url: str, fleet: str) -> None:
    """All at once, while somebody waits for news."""
    async with RedisBlockLog.connect(url, fleet) as log:
        reading = asyncio.ensure_future(log.read(START, 2.0))
        found = await asyncio.gather(*(log.lag_seconds("1-0") for _ in range(NUM_CALLS)))
        assert found == [0.0] * NUM_CALLS
        await log.tell(BATCH)
        assert (await reading).batches == (BATCH,)


async def test_calls_that_come_together_wait_for_one_another(
    server: RunningServer, fleet: str
) -> None:
    await check_many_calls(server.limited_url(fleet), fleet)


async def test_over_tls_they_do_so_too(valkey: RunningServer, fleet: str, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    async with tls_before(valkey.socket, authority) as port:
        await check_many_calls(f"rediss://{HOST}:{port}?ssl_ca_certs={authority.file}", fleet)


async def test_who_waits_in_vain_for_a_connection_is_told(
    valkey: RunningServer, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WAIT_SECONDS", 0.05)
    async with (
        RedisBlockLog.connect(valkey.url, fleet) as log,
        RedisBlockLog.connect(valkey.url, fleet) as other,
    ):
        readings = [asyncio.ensure_future(log.read(START, 2.0)) for _ in range(MAX_CONNECTIONS)]
        await asyncio.sleep(0)
        with pytest.raises(FleetUnavailable, match="No connection available"):
            await log.end()
        await other.tell(BATCH)
        await asyncio.gather(*readings)
        assert await log.end() != START
