"""What every part of the fleet state that lies on a Redis-protocol server has in common."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from fleet.connection import connect
from fleet.keys import FleetKeys
from fleet.url import redacted


class RedisClient:
    """One fleet's keys on one server.

    An async context manager: leaving it closes the connections, nothing else.
    """

    def __init__(self, client: Redis, fleet: str, server: str = "redis") -> None:
        self._client = client
        self._server = server
        self._keys = FleetKeys(fleet)

    @classmethod
    def connect(cls, url: str, fleet: str) -> Self:
        """Connects at the first call. Raises BadFleetUrl, or ValueError for a bad fleet name."""
        return cls(connect(url), fleet, redacted(url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._keys.fleet} at {self._server}>"


def milliseconds(seconds: float) -> int:
    """As a server takes them: whole ones, and never none."""
    return max(1, round(seconds * 1000))


def text(value: bytes | str) -> str:
    """A reply as text, whether or not the client decodes replies."""
    return value.decode() if isinstance(value, bytes) else value
