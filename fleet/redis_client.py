"""What every part of the fleet state that lies on a Redis-protocol server has in common."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from fleet.connection import bounded, connect
from fleet.errors import FleetRefused, FleetUnavailable
from fleet.keys import FleetKeys
from fleet.refusal import OLDEST, hint, of_age
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

    async def check(self) -> None:
        """Whether this server, with these rights, is one to work with.

        Raises FleetUnavailable, or FleetRefused with what to do.
        """
        try:
            async with bounded(self._server):
                hello = await self._client.execute_command("HELLO")  # type: ignore[no-untyped-call]
                await self._client.smembers(self._keys.index)
        except FleetRefused:
            raise
        except FleetUnavailable as outage:
            reason = outage.reason + hint(self._server, outage.reason)
            raise FleetUnavailable(self._server, reason) from outage
        version = text(hello[b"version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise FleetRefused(self._server, of_age(f"Redis {version}"))

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
