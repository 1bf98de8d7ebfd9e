"""A few bounded connections to a Redis-protocol server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from fleet.errors import BadFleetUrl, FleetRefused, FleetUnavailable
from fleet.refusal import refusal
from fleet.url import check_url, redacted

CONNECT_SECONDS = 2.0
CALL_SECONDS = 3.0
MAX_CONNECTIONS = 4
# For one of them, while all are in use.
WAIT_SECONDS = 2.0


def connect(url: str) -> Redis:
    """A client that has not connected yet. Its calls wait for one another's connections. Raises
    BadFleetUrl.
    """
    try:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            check_url(url),
            # Reads and writes are bounded by `bounded`: given a timeout, the client would
            # write under asyncio.wait_for, which loses cancellations in Python 3.11.
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            # One retry: after a server restart, the pool's connections are stale.
            retry=Retry(NoBackoff(), 1),
            max_connections=MAX_CONNECTIONS,
            timeout=WAIT_SECONDS,
            client_name="baton",
            protocol=3,
            # Neither is needed, and a user with few rights may not ask for them.
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except BadFleetUrl:
        raise
    except ValueError as error:
        raise BadFleetUrl(f"fleet state at {redacted(url)}: {error}") from error
    return Redis.from_pool(pool)


@asynccontextmanager
async def bounded(server: str) -> AsyncIterator[None]:
    """Bounds the calls inside and turns every failure of theirs into FleetUnavailable, or
    FleetRefused, which is one.
    """
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except TimeoutError as error:
        raise FleetUnavailable(server, "no answer in time") from error
    except (RedisError, OSError) as error:
        if reason := refusal(error):
            raise FleetRefused(server, reason) from error
        raise FleetUnavailable(server, str(error) or type(error).__name__) from error
