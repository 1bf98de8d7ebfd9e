from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis

from fleet.connection import connect
from fleet.redis_membership import RedisMembership
from tests.fleet.server import PROGRAMS, RunningServer, RunningValkey, program

StartServer = Callable[[str], RunningServer]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Each kind once, when a test first asks for it."""
    running: dict[str, RunningServer] = {}
    with ExitStack() as stack:

        def start(kind: str) -> RunningServer:
            if kind not in running:
                server = RunningServer(tmp_path_factory.mktemp(kind), program(kind))
                running[kind] = stack.enter_context(server)
            return running[kind]

        yield start


@pytest.fixture
def valkey(start_server: StartServer) -> RunningServer:
    """A real server, shared: every test takes a fleet of its own."""
    return start_server("valkey")


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest, start_server: StartServer) -> RunningServer:
    """Every real server that there is, shared: every test takes a fleet of its own."""
    return start_server(request.param)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[RunningValkey]:
    """A real server that a test may stop and start."""
    with RunningValkey(tmp_path) as server:
        yield server


@pytest.fixture
def fleet() -> str:
    return f"fleet-{secrets.token_hex(4)}"


@pytest.fixture(params=["fakeredis", *PROGRAMS])
def connect_redis(
    request: pytest.FixtureRequest, fleet: str, start_server: StartServer
) -> Callable[[], Redis]:
    """A new client of every kind of server, the real ones with the rights of a fleet's user."""
    if request.param == "fakeredis":
        fake = FakeServer()
        return lambda: FakeAsyncRedis(server=fake)
    url = start_server(request.param).limited_url(fleet)
    return lambda: connect(url)


@pytest.fixture
async def membership(
    connect_redis: Callable[[], Redis], fleet: str, stack: AsyncExitStack
) -> RedisMembership:
    """Each implementation of the membership contract."""
    return await stack.enter_async_context(RedisMembership(connect_redis(), fleet))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack
