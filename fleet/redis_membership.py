"""Membership over the Redis protocol."""

from __future__ import annotations

import logging

from redis.asyncio import Redis

from fleet.connection import bounded
from fleet.errors import Superseded
from fleet.member import Member
from fleet.redis_client import RedisClient, milliseconds, text

logger = logging.getLogger(__name__)

# KEYS: the worker's record, the index. ARGV: record, lease in ms, worker_id, "join" | "renew".
# The index lives as long as the longest lease, so that a dead fleet leaves nothing.
CLAIM = """
local held = redis.call('GET', KEYS[1])
if ARGV[4] == 'renew' and held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return 1
"""

# KEYS: the worker's record, the index. ARGV: record, or "" for a lease that ended; worker_id.
RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 1
"""


class RedisMembership(RedisClient):
    """Each member is a key with a TTL, and a set names them: see FleetKeys."""

    def __init__(self, client: Redis, fleet: str, server: str = "redis") -> None:
        super().__init__(client, fleet, server)
        self._claim = client.register_script(CLAIM)
        self._release = client.register_script(RELEASE)
        self._unreadable: set[str] = set()

    async def join(self, member: Member, lease_seconds: float) -> None:
        await self._hold(member, lease_seconds, "join")

    async def renew(self, member: Member, lease_seconds: float) -> None:
        if not await self._hold(member, lease_seconds, "renew"):
            raise Superseded(member.worker_id)

    async def leave(self, member: Member) -> None:
        await self._drop(member.worker_id, member.encode())

    async def members(self) -> tuple[Member, ...]:
        found = []
        for worker_id, record in await self._records():
            if record is None:
                await self._drop(worker_id, b"")
            elif member := self._read(worker_id, record):
                found.append(member)
        return tuple(found)

    async def _hold(self, member: Member, lease_seconds: float, how: str) -> bool:
        if lease_seconds <= 0:
            raise ValueError("a lease lasts longer than 0 seconds")
        async with bounded(self._server):
            keys = [self._keys.worker(member.worker_id), self._keys.index]
            args = (member.encode(), milliseconds(lease_seconds), member.worker_id, how)
            return bool(await self._claim(keys=keys, args=args))

    async def _records(self) -> list[tuple[str, bytes | str | None]]:
        """By worker_id; None for one whose lease has ended."""
        async with bounded(self._server):
            ids = sorted(text(name) for name in await self._client.smembers(self._keys.index))
            if not ids:
                return []
            records = await self._client.mget([self._keys.worker(name) for name in ids])
        return list(zip(ids, records, strict=True))

    async def _drop(self, worker_id: str, record: bytes) -> None:
        async with bounded(self._server):
            keys = [self._keys.worker(worker_id), self._keys.index]
            await self._release(keys=keys, args=[record, worker_id])

    def _read(self, worker_id: str, record: bytes | str) -> Member | None:
        try:
            member = Member.decode(record)
        except ValueError as error:
            if worker_id not in self._unreadable:
                self._unreadable.add(worker_id)
                logger.warning("the fleet's record of %s is unreadable: %s", worker_id, error)
            return None
        self._unreadable.discard(worker_id)
        return member
