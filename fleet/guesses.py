"""Which blocks workers are expected to hold soon, because requests were sent to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fleet.block_table import BlockTable
from fleet.tier import BlockKeys, Tier

# In one generation. More begin a new one early.
MAX_BLOCKS = 1 << 20


class _Generation:
    """What was expected in one stretch of time. Workers have numbers of its own."""

    def __init__(self) -> None:
        self.table = BlockTable()
        self._numbers: dict[str, int] = {}
        self._rows: tuple[Sequence[str], int, NDArray[np.intp]] = ((), 0, np.zeros(0, np.intp))

    def add(self, worker: str, keys: BlockKeys) -> None:
        number = self._numbers.setdefault(worker, len(self._numbers))
        self.table.add(number, Tier.EXPECTED, keys)

    def match(self, keys: BlockKeys, workers: Sequence[str]) -> NDArray[np.int32]:
        if not self._numbers:
            return np.zeros(len(workers), np.int32)
        # The place after the last is nobody's.
        found = np.append(self.table.match(keys).on_device, np.int32(0))
        return found[self._rows_of(workers)]

    def _rows_of(self, workers: Sequence[str]) -> NDArray[np.intp]:
        known, size, rows = self._rows
        if known is not workers or size != len(self._numbers):
            nobody = self.table.max_workers
            rows = np.fromiter((self._numbers.get(each, nobody) for each in workers), np.intp)
            self._rows = (workers, len(self._numbers), rows)
        return rows


class Guesses:
    """Two generations: what was expected lately, and before that. Nothing is taken out one by
    one; the older generation is dropped whole.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._until = clock() + seconds
        self._now, self._before = _Generation(), _Generation()

    @property
    def num_blocks(self) -> int:
        return self._now.table.num_entries + self._before.table.num_entries

    def add(self, worker: str, keys: BlockKeys) -> None:
        """All blocks of a prompt, from its first on."""
        self._turn()
        if len(keys):
            self._now.add(worker, keys)

    def match(self, keys: BlockKeys, workers: Sequence[str]) -> NDArray[np.int32]:
        """Blocks from the first that each of them is expected to hold, in their order."""
        self._turn()
        return np.maximum(self._now.match(keys, workers), self._before.match(keys, workers))

    def _turn(self) -> None:
        now = self._clock()
        if now >= self._until + self._seconds:
            self._now, self._before = _Generation(), _Generation()
        elif now >= self._until or self._now.table.num_entries > MAX_BLOCKS:
            self._now, self._before = _Generation(), self._now
        else:
            return
        self._until = now + self._seconds

    def __repr__(self) -> str:
        return f"<Guesses: {self.num_blocks} blocks>"
