"""Whether a process that was started can be used by now."""

from __future__ import annotations

import asyncio

from baton.child import Child
from baton.lineup import Part
from fleet.errors import FleetUnavailable
from fleet.membership import Membership

ANSWER_SECONDS = 5.0


class Readiness:
    """Workers are ready when this very process of them has joined the fleet; the gateway when
    its /health says 200; Valkey when it answers.
    """

    def __init__(self, membership: Membership, host: str, port: int) -> None:
        self._membership = membership
        self._host = host
        self._port = port

    async def is_ready(self, child: Child) -> bool:
        if child.spec.part is Part.GATEWAY:
            return await http_status(self._host, self._port, "/health") == 200
        try:
            members = await self._membership.members()
        except FleetUnavailable:
            return False
        joined = {(member.worker_id, member.pid) for member in members}
        return all((name, child.pid) in joined for name in child.spec.workers)


async def http_status(host: str, port: int, path: str) -> int | None:
    """The status of one GET; None if there was no answer."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await get(host, port, path)
    except (OSError, TimeoutError, ValueError):
        return None


async def get(host: str, port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        _, status, *_ = (await reader.readline()).split()
        return int(status)
    finally:
        writer.close()
