"""Membership over the Redis protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from redis.asyncio import Redis

from fleet.connection import bounded
from fleet.errors import Superseded
from fleet.member import Member
from fleet.member_load import MemberLoad
from fleet.redis_client import RedisClient, milliseconds, text

Record = TypeVar("Record", Member, MemberLoad)

logger = logging.getLogger(__name__)

# KEYS: the worker's record, the index, its load. ARGV: record, lease in ms, worker_id,
# "join" | "renew", load or "". The index lives as long as the longest lease, so that a dead
# fleet leaves nothing.
CLAIM = """
local held = redis.call('GET', KEYS[1])
if ARGV[4] == 'renew' and held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
if ARGV[5] ~= '' then redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[2])
elseif held ~= ARGV[1] then redis.call('DEL', KEYS[3])
else redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
return 1
"""

# KEYS: the worker's record, the index, its load. ARGV: record, or "" for a lease that ended;
# worker_id.
RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('SREM', KEYS[2], ARGV[2])
return 1
"""


class RedisMembership(RedisClient):
    """Each member is a key with a TTL, its load another, and a set names them: see FleetKeys."""

    def __init__(self, client: Redis, fleet: str, server: str = "redis") -> None:
        super().__init__(client, fleet, server)
        self._claim = client.register_script(CLAIM)
        self._release = client.register_script(RELEASE)
        self._unreadable: set[tuple[str, type]] = set()

    async def join(self, member: Member, lease_seconds: float) -> None:
        await self._hold(member, lease_seconds, "join")

    async def renew(
        self, member: Member, lease_seconds: float, load: MemberLoad | None = None
    ) -> None:
        if not await self._hold(member, lease_seconds, "renew", load):
            raise Superseded(member.worker_id)

    async def leave(self, member: Member) -> None:
        await self._drop(member.worker_id, member.encode())

    async def members(self) -> tuple[Member, ...]:
        found = []
        for worker_id, record in await self._records(self._keys.worker):
            if record is None:
                await self._drop(worker_id, b"")
            elif member := self._read(worker_id, Member, record):
                found.append(member)
        return tuple(found)

    async def loads(self) -> dict[str, MemberLoad]:
        records = await self._records(self._keys.load)
        return {
            worker_id: load
            for worker_id, record in records
            if record is not None and (load := self._read(worker_id, MemberLoad, record))
        }

    async def _hold(
        self, member: Member, lease_seconds: float, how: str, load: MemberLoad | None = None
    ) -> bool:
        if lease_seconds <= 0:
            raise ValueError("a lease lasts longer than 0 seconds")
        told = load.encode() if load else b""
        async with bounded(self._server):
            args = (member.encode(), milliseconds(lease_seconds), member.worker_id, how, told)
            return bool(await self._claim(keys=self._keys_of(member.worker_id), args=args))

    async def _records(self, key: Callable[[str], str]) -> list[tuple[str, bytes | str | None]]:
        """What lies under each worker's key, by worker_id; None where nothing does any more."""
        async with bounded(self._server):
            ids = sorted(text(name) for name in await self._client.smembers(self._keys.index))
            if not ids:
                return []
            records = await self._client.mget([key(name) for name in ids])
        return list(zip(ids, records, strict=True))

    async def _drop(self, worker_id: str, record: bytes) -> None:
        async with bounded(self._server):
            await self._release(keys=self._keys_of(worker_id), args=[record, worker_id])

    def _keys_of(self, worker_id: str) -> list[str]:
        keys = self._keys
        return [keys.worker(worker_id), keys.index, keys.load(worker_id)]

    def _read(self, worker_id: str, kind: type[Record], record: bytes | str) -> Record | None:
        try:
            found = kind.decode(record)
        except ValueError as error:
            if (worker_id, kind) not in self._unreadable:
                self._unreadable.add((worker_id, kind))
                logger.warning("the fleet's record of %s is unreadable: %s", worker_id, error)
            return None
        self._unreadable.discard((worker_id, kind))
        return found
