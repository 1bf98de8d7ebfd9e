"""Whether the index says what the workers' caches really hold; may run under load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fleet.block_news import unpack
from fleet.block_replica import BlockReplica
from fleet.tier import BlockKeys, Tier
from gateway.session import WorkerSession

ANSWER_SECONDS = 10.0
# News take so long at most; what still differs after them is wrong.
SETTLE_SECONDS = 1.0
# Workers in one audit: for each, the whole index is looked through twice.
MAX_ASKED = 16


class BlockAudit:
    """Asks some workers, chosen at random, twice: only what differs both times is counted."""

    def __init__(
        self,
        replica: BlockReplica,
        sessions: Callable[[], Iterable[WorkerSession]],
        max_asked: int = MAX_ASKED,
    ) -> None:
        self._replica = replica
        self._sessions = sessions
        self._max_asked = max_asked
        self._under_way: asyncio.Future[dict[str, Any] | None] | None = None
        self._compares = asyncio.Lock()

    async def run(self) -> dict[str, Any]:
        """How many workers there are and how many were asked; by worker, blocks held on the device,
        those that the index lacks, and those that it has wrongly; and the shares of both.

        Who calls while an audit is under way gets the result of that one.
        """
        while self._under_way is not None:
            if (others := await asyncio.shield(self._under_way)) is not None:
                return others
        self._under_way = asyncio.get_running_loop().create_future()
        found = None
        try:
            found = await self._audit()
        finally:
            self._under_way.set_result(found)
            self._under_way = None
        return found

    async def _audit(self) -> dict[str, Any]:
        sessions = list(self._sessions())
        asked = random.sample(sessions, min(self._max_asked, len(sessions)))
        first = await asyncio.gather(*map(self._differences, asked))
        await asyncio.sleep(SETTLE_SECONDS)
        second = await asyncio.gather(*map(self._differences, asked))
        workers: dict[str, dict[str, Any]] = {
            session.worker: (
                {"reason": "it did not answer"}
                if before is None or after is None
                else figures(after[0], before[1] & after[1], before[2] & after[2])
            )
            for session, before, after in zip(asked, first, second, strict=True)
        }
        numbers = {"num_workers": len(sessions), "num_asked": len(asked)}
        return {**sums_of(list(workers.values())), **numbers, "workers": workers}

    async def _differences(self, session: WorkerSession) -> tuple[int, set[int], set[int]] | None:
        """Blocks held, those that the index lacks, those that it has wrongly. Of several answers
        that come together, other tasks have a turn after each.
        """
        try:
            keys = unpack(await session.held_blocks(ANSWER_SECONDS))
        except TimeoutError:
            return None
        async with self._compares:
            await asyncio.sleep(0)
            indexed = self._replica.held(session.worker, Tier.DEVICE)
            return len(keys), difference(keys, indexed), difference(indexed, keys)


def difference(ours: BlockKeys, theirs: BlockKeys) -> set[int]:
    return set(np.setdiff1d(ours, theirs).tolist())


def sums_of(workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of those that answered."""
    answered = [each for each in workers if "num_held" in each]
    names = ("num_held", "num_lacking", "num_wrong")
    return figures_of(*(sum(each[name] for each in answered) for name in names))


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
