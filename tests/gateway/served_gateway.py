"""A whole gateway over stand-in workers, on a real port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fakeredis.aioredis import FakeRedis

from fleet.member import Member, Role
from fleet.member_load import MemberLoad
from fleet.redis_block_log import RedisBlockLog
from fleet.watch import MembershipWatch
from gateway.http_server import bind
from gateway.main import Gateway
from gateway.settings import Settings
from tests.gateway.stand_in_worker import Fabric, StandInWorker, Wire, serving
from tests.proto.builders import KEY


class ListedMembers:
    """A membership that tests write to directly."""

    def __init__(self, *listed: Member) -> None:
        self.listed = list(listed)

    async def join(self, member: Member, lease_seconds: float) -> None:
        await self.leave(member)
        self.listed.append(member)

    async def renew(
        self, member: Member, lease_seconds: float, load: MemberLoad | None = None
    ) -> None:
        await self.join(member, lease_seconds)

    async def leave(self, member: Member) -> None:
        self.listed = [other for other in self.listed if other.worker_id != member.worker_id]

    async def members(self) -> tuple[Member, ...]:
        return tuple(self.listed)

    async def loads(self) -> dict[str, MemberLoad]:
        return {}


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    gateway: Gateway
    members: ListedMembers
    prefill: StandInWorker
    decode: StandInWorker
    log: RedisBlockLog

    @property
    def workers(self) -> tuple[StandInWorker, StandInWorker]:
        return self.prefill, self.decode


@asynccontextmanager
async def served_gateway(model: Path, wire: Wire, **settings: object) -> AsyncIterator[Served]:
    """With one prefill and one decode worker."""
    fabric = Fabric()
    prefill = StandInWorker("prefill-0", Role.PREFILL, wire, fabric)
    decode = StandInWorker("decode-0", Role.DECODE, wire, fabric)
    async with serving(prefill, decode):
        members = ListedMembers(prefill.member, decode.member)
        values = {
            "model": str(model),
            "served_model_name": "tiny,alias",
            "port": 0,
            "disaggregation": "always",
            **settings,
        }
        values["fleet_key_file"] = "unread"
        watch = MembershipWatch(members, poll_seconds=0.01)
        log = RedisBlockLog(FakeRedis(), "fleet")
        gateway = Gateway(Settings.model_validate(values), KEY, watch, log)
        with bind("127.0.0.1", 0) as sock:
            running = asyncio.ensure_future(gateway.run(sock))
            url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            await listening(sock, running)
            yield Served(url, gateway, members, prefill, decode, log)
            gateway.stop()
            await running


async def listening(sock: socket.socket, running: asyncio.Future[None]) -> None:
    """Until it accepts connections; raises what ended the gateway before."""
    while True:
        if running.done():
            running.result()
        try:
            _, writer = await asyncio.open_connection(*sock.getsockname()[:2])
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
