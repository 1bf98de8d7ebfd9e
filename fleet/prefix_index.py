"""How much of a prompt lies in which worker's prefix cache, as far as this gateway knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fleet.block_replica import BlockReplica
from fleet.guesses import Guesses
from fleet.tier import BlockKeys, Tier

# News of a block take less.
TURN_SECONDS = 1.0
NOWHERE = -1

Counts = NDArray[np.int32]


class PrefixIndex:
    """A replica, and guesses: a worker that a request is sent to will hold its prompt's blocks."""

    def __init__(
        self,
        replica: BlockReplica,
        clock: Callable[[], float] = time.monotonic,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.replica = replica
        self._guesses = Guesses(clock, turn_seconds)
        self._rows: tuple[int, Sequence[str], NDArray[np.intp]] = (-1, (), np.zeros(0, np.intp))

    @property
    def num_expected(self) -> int:
        """Blocks, each as often as it is expected somewhere."""
        return self._guesses.num_blocks

    def hits(self, keys: BlockKeys, workers: Sequence[str]) -> tuple[Counts, Counts]:
        """Blocks from the prompt's first that each of `workers` holds, in their order: on its
        device or expected there, and on any tier. The same sequence object is found faster.
        """
        found = self.replica.match(keys)
        rows = self._rows_of(workers)
        # One that holds nothing yet may have a row that the table does not reach to.
        is_known = (rows != NOWHERE) & (rows < len(found.on_device))
        rows = np.where(is_known, rows, 0)
        expected = self._guesses.match(keys, workers)
        on_device = np.maximum(is_known * found.on_device[rows], expected)
        return on_device, np.maximum(is_known * found.anywhere[rows], expected)

    def held_from_first(self, worker: str, keys: BlockKeys) -> int:
        """Blocks from the prompt's first that are on this worker's device by now: no guesses."""
        row = self.replica.row_of(worker)
        return 0 if row is None else self.replica.table.held_from_first(row, Tier.DEVICE, keys)

    def expect(self, request_id: str, blocks: Mapping[str, BlockKeys]) -> None:
        """A request with these blocks is sent to these workers, and to no others."""
        self._guesses.expect(request_id, blocks)

    def settle(self, request_id: str) -> None:
        """The request's blocks are where they were expected, or will not come."""
        self._guesses.end(request_id)

    def _rows_of(self, workers: Sequence[str]) -> NDArray[np.intp]:
        generation, known, rows = self._rows
        if generation != self.replica.generation or known is not workers:
            found = map(self.replica.row_of, workers)
            rows = np.fromiter((NOWHERE if row is None else row for row in found), np.intp)
            self._rows = (self.replica.generation, workers, rows)
        return rows

    def __repr__(self) -> str:
        return f"<PrefixIndex: {self._guesses!r}>"
