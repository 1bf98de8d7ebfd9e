from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fleet.member import Member, Role, new_incarnation

PATIENCE_SECONDS = 10.0


def make_member(worker_id: str = "prefill-0", *, incarnation: str = "", port: int = 9000) -> Member:
    return Member(
        worker_id=worker_id,
        incarnation=incarnation or new_incarnation(),
        address=f"127.0.0.1:{port}",
        roles=(Role.PREFILL,),
        model="models/tiny",
        vllm_version="0.32.0",
        pid=4711,
        started_at=1_700_000_000.25,
    )


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns as soon as `holds()`; fails after a while."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110 - the condition lives in a server
            await asyncio.sleep(0.005)
