from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from fleet.redis_membership import RedisMembership
from tests.fleet.server import RunningValkey


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningValkey]:
    """A real server, shared: every test takes a fleet of its own."""
    with RunningValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[RunningValkey]:
    """A real server that a test may stop and start."""
    with RunningValkey(tmp_path) as server:
        yield server


@pytest.fixture
def fleet() -> str:
    return f"fleet-{secrets.token_hex(4)}"


@pytest.fixture(params=["fakeredis", "valkey"])
async def membership(
    request: pytest.FixtureRequest, fleet: str, stack: AsyncExitStack
) -> RedisMembership:
    """Each implementation of the membership contract."""
    if request.param == "fakeredis":
        return await stack.enter_async_context(
            RedisMembership(FakeAsyncRedis(server=FakeServer()), fleet)
        )
    server: RunningValkey = request.getfixturevalue("valkey")
    return await stack.enter_async_context(RedisMembership.connect(server.url, fleet))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack
