"""Whether the index says what the workers' caches really hold; may run under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fleet.block_news import unpack
from fleet.block_replica import BlockReplica
from fleet.tier import BlockKeys, Tier
from gateway.session import WorkerSession

ANSWER_SECONDS = 10.0
# News take so long at most; what still differs after them is wrong.
SETTLE_SECONDS = 1.0


class BlockAudit:
    """Asks every worker twice: only what differs both times is counted."""

    def __init__(
        self, replica: BlockReplica, sessions: Callable[[], Iterable[WorkerSession]]
    ) -> None:
        self._replica = replica
        self._sessions = sessions
        self._is_running = asyncio.Lock()

    async def run(self) -> dict[str, Any]:
        """By worker: blocks held on the device, those that the index lacks, and those that it
        has wrongly; and the shares of both.
        """
        async with self._is_running:
            sessions = list(self._sessions())
            first = await asyncio.gather(*map(self._differences, sessions))
            await asyncio.sleep(SETTLE_SECONDS)
            second = await asyncio.gather(*map(self._differences, sessions))
        workers: dict[str, dict[str, Any]] = {
            session.worker: (
                {"reason": "it did not answer"}
                if before is None or after is None
                else figures(after[0], before[1] & after[1], before[2] & after[2])
            )
            for session, before, after in zip(sessions, first, second, strict=True)
        }
        answered = [each for each in workers.values() if "num_held" in each]
        names = ("num_held", "num_lacking", "num_wrong")
        sums = (sum(each[name] for each in answered) for name in names)
        return {**figures_of(*sums), "workers": workers}

    async def _differences(self, session: WorkerSession) -> tuple[int, set[int], set[int]] | None:
        """Blocks held, those that the index lacks, those that it has wrongly."""
        try:
            keys = unpack(await session.held_blocks(ANSWER_SECONDS))
        except TimeoutError:
            return None
        indexed = self._replica.held(session.worker, Tier.DEVICE)
        return len(keys), difference(keys, indexed), difference(indexed, keys)


def difference(ours: BlockKeys, theirs: BlockKeys) -> set[int]:
    return set(np.setdiff1d(ours, theirs).tolist())


def figures(num_held: int, lacking: set[int], wrong: set[int]) -> dict[str, Any]:
    return figures_of(num_held, len(lacking), len(wrong))


def figures_of(num_held: int, num_lacking: int, num_wrong: int) -> dict[str, Any]:
    indexed = num_held - num_lacking + num_wrong
    return {
        "num_held": num_held,
        "num_lacking": num_lacking,
        "num_wrong": num_wrong,
        "share_lacking": num_lacking / num_held if num_held else 0.0,
        "share_wrong": num_wrong / indexed if indexed else 0.0,
    }
