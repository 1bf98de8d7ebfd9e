"""How much of a prompt lies in which worker's prefix cache, as far as this gateway knows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fleet.block_replica import BlockReplica
from fleet.tier import BlockKeys, Tier

EXPECT_SECONDS = 60.0
# Guesses at once, in blocks. The oldest are given up.
MAX_EXPECTED = 1 << 21
NOWHERE = -1

Counts = NDArray[np.int32]


class PrefixIndex:
    """A replica with guesses: a worker that a request was sent to will hold its prompt's blocks.

    A guess ends after `expect_seconds`; by then its worker has told of them.
    """

    def __init__(
        self,
        replica: BlockReplica,
        clock: Callable[[], float] = time.monotonic,
        expect_seconds: float = EXPECT_SECONDS,
    ) -> None:
        self.replica = replica
        self._clock = clock
        self._expect_seconds = expect_seconds
        self._guesses: deque[tuple[float, str, int, BlockKeys]] = deque()
        self._num_expected = 0
        self._rows: tuple[int, Sequence[str], NDArray[np.intp]] = (-1, (), np.zeros(0, np.intp))

    def hits(self, keys: BlockKeys, workers: Sequence[str]) -> tuple[Counts, Counts]:
        """Blocks from the prompt's first that each of `workers` holds, in their order: on its
        device or expected there, and on any tier. The same sequence object is found faster.
        """
        self._expire()
        found = self.replica.match(keys)
        rows = self._rows_of(workers)
        # One that holds nothing yet may have a row that the table does not reach to.
        is_known = (rows != NOWHERE) & (rows < len(found.on_device))
        rows = np.where(is_known, rows, 0)
        return is_known * found.on_device[rows], is_known * found.anywhere[rows]

    def held_from_first(self, worker: str, keys: BlockKeys) -> int:
        """Blocks from the prompt's first that are on this worker's device by now: no guesses."""
        row = self.replica.rows.get(worker)
        return 0 if row is None else self.replica.table.held_from_first(row, Tier.DEVICE, keys)

    def expect(self, worker: str, keys: BlockKeys) -> None:
        """A request with these blocks was sent to it."""
        row = self.replica.expect(worker, keys) if len(keys) else None
        if row is None:
            return
        self._guesses.append((self._clock() + self._expect_seconds, worker, row, keys))
        self._num_expected += len(keys)

    def _expire(self) -> None:
        now = self._clock()
        while self._guesses and (self._guesses[0][0] <= now or self._num_expected > MAX_EXPECTED):
            _, worker, row, keys = self._guesses.popleft()
            self._num_expected -= len(keys)
            self.replica.forget(worker, row, keys)

    def _rows_of(self, workers: Sequence[str]) -> NDArray[np.intp]:
        generation, known, rows = self._rows
        if generation != self.replica.generation or known is not workers:
            by_worker = self.replica.rows
            rows = np.fromiter((by_worker.get(each, NOWHERE) for each in workers), np.intp)
            self._rows = (self.replica.generation, workers, rows)
        return rows

    def __repr__(self) -> str:
        return f"<PrefixIndex: {len(self._guesses)} guesses>"
