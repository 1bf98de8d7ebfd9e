"""Which blocks workers are expected to hold soon, because requests were sent to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fleet.block_table import FIRST_SLOTS, BlockTable
from fleet.tier import BlockKeys, Tier

# In one generation.
MAX_MARKS = 1 << 20
# Of a prompt's blocks, the first so many are marks, and then one in each next part of that size.
DENSE = 64
LONGEST_PROMPT = 1 << 22
# Requests under way, each time something is asked: a turn is spread over what follows it.
CARRIED_AT_ONCE = 4


def marks() -> NDArray[np.intp]:
    """Numbers of the blocks by which a guess is found: whoever has one has all before it."""
    found = [0]
    while found[-1] < LONGEST_PROMPT:
        found.append(found[-1] + 1 + found[-1] // DENSE)
    return np.array(found, np.intp)


MARKS = marks()
# By how many marks are found: so many blocks are there at least.
NUM_BLOCKS = np.append(0, MARKS + 1).astype(np.int32)


def marked(keys: BlockKeys) -> BlockKeys:
    return keys[MARKS[: int(np.searchsorted(MARKS, len(keys)))]]


class _Generation:
    """What was expected in one stretch of time. Workers have numbers of its own."""

    def __init__(self, num_slots: int = FIRST_SLOTS) -> None:
        self.table = BlockTable(num_slots)
        self._numbers: dict[str, int] = {}
        self._rows: tuple[Sequence[str], int, NDArray[np.intp]] = ((), 0, np.zeros(0, np.intp))

    def add(self, worker: str, keys: BlockKeys) -> None:
        """Marks; nothing if there is no room."""
        if self.table.num_entries + len(keys) > MAX_MARKS:
            return
        number = self._numbers.setdefault(worker, len(self._numbers))
        self.table.add(number, Tier.EXPECTED, keys)

    def match(self, keys: BlockKeys, workers: Sequence[str]) -> NDArray[np.int32]:
        """How many marks from the first."""
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
    """By request, while it is under way; its blocks are forgotten one or two turns after that, and
    by then its worker has told of them. Nothing is taken out one by one: with each turn, what is
    still expected begins a new generation, and the one before the last is dropped whole.

    A prompt of thousands of blocks is known by hundreds of them, so a match of it may be told too
    short, by a 64th.
    """

    def __init__(self, clock: Callable[[], float], turn_seconds: float) -> None:
        self._clock = clock
        self._turn_seconds = turn_seconds
        self._until = clock() + turn_seconds
        self._open: dict[str, Mapping[str, BlockKeys]] = {}
        self._to_carry: dict[str, None] = {}
        self._now, self._before = _Generation(), _Generation()

    @property
    def num_blocks(self) -> int:
        """Of requests under way, each as often as it is expected somewhere."""
        return sum(len(keys) for blocks in self._open.values() for keys in blocks.values())

    def expect(self, request_id: str, blocks: Mapping[str, BlockKeys]) -> None:
        """All blocks of its prompt, from the first on, by worker. What was expected before, on
        workers that are not named again, fades within two turns. More than MAX_MARKS of all
        requests are not expected.
        """
        self._turn()
        known = self._open.get(request_id, {})
        self._open[request_id] = blocks
        for worker, keys in blocks.items():
            if worker not in known:
                self._now.add(worker, marked(keys))

    def end(self, request_id: str) -> None:
        """The request's blocks are there, or will not come."""
        self._carry(request_id)
        self._open.pop(request_id, None)

    def match(self, keys: BlockKeys, workers: Sequence[str]) -> NDArray[np.int32]:
        """Blocks from the first that each of them is expected to hold, in their order."""
        self._turn()
        keys = marked(keys)
        found: NDArray[np.int32] = np.maximum(
            self._now.match(keys, workers), self._before.match(keys, workers)
        )
        return NUM_BLOCKS[found]

    def _turn(self) -> None:
        now = self._clock()
        if now < self._until:
            for request_id in tuple(islice(self._to_carry, CARRIED_AT_ONCE)):
                self._carry(request_id)
            return
        for request_id in tuple(self._to_carry):
            self._carry(request_id)
        is_long_ago = now >= self._until + self._turn_seconds and not self._open
        self._before = _Generation() if is_long_ago else self._now
        self._now = _Generation(self._before.table.num_slots)
        self._to_carry = dict.fromkeys(self._open)
        self._until = now + self._turn_seconds

    def _carry(self, request_id: str) -> None:
        """It was under way at the turn, and is in this generation, too."""
        if request_id in self._to_carry:
            del self._to_carry[request_id]
            for worker, keys in self._open[request_id].items():
                self._now.add(worker, marked(keys))

    def __repr__(self) -> str:
        return f"<Guesses: {len(self._open)} requests, {self.num_blocks} blocks>"
