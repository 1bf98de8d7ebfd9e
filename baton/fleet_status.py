"""`baton status --redis`: the workers of any fleet, on whichever hosts, out of its state."""

from __future__ import annotations

import asyncio
import time

from baton.console import Console
from baton.status import duration
from baton.table import render
from fleet.member import Member, Role
from fleet.member_load import MemberLoad
from fleet.redis_membership import RedisMembership

HEADING = ("worker", "role", "address", "up for", "running", "waiting", "KV blocks")


def fleet_status(url: str, fleet: str, console: Console) -> int:
    """0 if there is a decode worker, else 1. Raises FleetError."""
    members, loads = asyncio.run(read(url, fleet))
    rows = [row(member, loads.get(member.worker_id)) for member in members]
    if not rows:
        console.line(f"Fleet {fleet} has no workers")
    for line in render(HEADING, rows) if rows else ():
        console.line(line)
    return 0 if any(Role.DECODE in member.roles for member in members) else 1


async def read(url: str, fleet: str) -> tuple[tuple[Member, ...], dict[str, MemberLoad]]:
    async with RedisMembership.connect(url, fleet) as membership:
        await membership.check()
        return await membership.members(), await membership.loads()


def row(member: Member, load: MemberLoad | None) -> tuple[str, ...]:
    return (
        member.worker_id,
        "+".join(member.roles),
        member.address,
        duration(time.time() - member.started_at),
        *load_cells(load),
    )


def load_cells(load: MemberLoad | None) -> tuple[str, ...]:
    if load is None:
        return ("",) * 3
    return (
        str(load.num_running),
        str(load.num_waiting),
        f"{load.num_kv_blocks_used}/{load.num_kv_blocks}",
    )
