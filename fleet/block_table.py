"""Which worker holds which KV blocks, on which tier: a compact table in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fleet import block_kernels as kernels
from fleet.block_kernels import (
    FEW,
    NUM_FREE_FEW,
    NUM_FREE_MANY,
    NUM_TIERS,
    NUM_USED,
    WORD_BITS,
    State,
)
from fleet.tier import BlockKeys, Tier

T = TypeVar("T", bound=np.generic)

MAX_WORKERS = 1 << 14
FIRST_SLOTS = 1 << 12
FIRST_RECORDS = 1 << 6
PURGE_SLOTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Match:
    """Blocks from the first that each worker holds, by worker number: on its device, or
    expected there; and on any tier.
    """

    on_device: NDArray[np.int32]
    anywhere: NDArray[np.int32]


class BlockTable:
    """A block is known by a 64-bit key that is not 0, a worker by a small number.

    One thread changes it. Takes 19 to 38 bytes a block that one worker holds, by how full it is,
    and half as much again while it grows.
    """

    def __init__(self, num_slots: int = FIRST_SLOTS) -> None:
        """`num_slots`, a power of 2, of which 5/8 take blocks before it grows."""
        counts = np.zeros(WORD_BITS * NUM_TIERS, np.int64)
        self._state = State(
            np.zeros(num_slots, np.uint64),
            np.zeros(num_slots, np.uint32),
            np.zeros((0, FEW + 1), np.uint16),
            np.zeros(0, np.int32),
            np.zeros((0, 1, NUM_TIERS), np.uint64),
            np.zeros(0, np.int32),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint64),
            np.zeros(0, np.int32),
            np.zeros(1, np.uint64),
            np.zeros(1, np.uint32),
            counts,
            np.zeros(3, np.int64),
        )

    @classmethod
    def warm_up(cls) -> None:
        """Has everything compiled; what was compiled once is kept on disk."""
        own = np.array([1, 2], np.uint64)
        # What lies in a message that came cannot be written to, which is another type.
        for keys in (own, np.frombuffer(own.tobytes(), np.uint64)):
            table = cls()
            for worker in range(2):
                table.add(worker, Tier.DEVICE, keys)
            table.match(keys)
            table.held(0, Tier.DEVICE)
            table.held_from_first(0, Tier.DEVICE, keys)
            table.remove(0, Tier.DEVICE, keys)
            for _ in table.purge(1, Tier.DEVICE):
                pass

    @property
    def num_blocks(self) -> int:
        """Distinct ones."""
        return int(self._state.sizes[NUM_USED])

    @property
    def num_entries(self) -> int:
        """Blocks, each as often as it is held."""
        return int(self._state.counts.sum())

    @property
    def num_slots(self) -> int:
        return len(self._state.keys)

    @property
    def num_bytes(self) -> int:
        """Of memory."""
        return sum(array.nbytes for array in self._state)

    @property
    def max_workers(self) -> int:
        """Numbers below this one have been used; it grows."""
        return int(self._state.many.shape[1]) * WORD_BITS

    def num_held(self, worker: int, tier: Tier) -> int:
        return int(self._state.counts[worker * NUM_TIERS + tier]) if self._knows(worker) else 0

    def add(self, worker: int, tier: Tier, keys: BlockKeys) -> None:
        """`worker` holds these blocks now."""
        if not self._knows(worker):
            self._widen(worker)
        while len(keys):
            keys = keys[kernels.add(self._state, keys, worker * NUM_TIERS + tier) :]
            if len(keys):
                self._grow()

    def remove(self, worker: int, tier: Tier, keys: BlockKeys) -> None:
        """`worker` holds them no more. Those that it does not hold are ignored."""
        while self._knows(worker) and len(keys):
            keys = keys[kernels.remove(self._state, keys, worker * NUM_TIERS + tier) :]
            if len(keys):
                self._grow()

    def purge(self, worker: int, tier: Tier) -> Iterator[None]:
        """`worker` holds nothing any more once this is exhausted.

        In steps of about a millisecond; meanwhile other workers' blocks may change.
        """
        holder = worker * NUM_TIERS + tier
        while self.num_held(worker, tier):
            first = 0
            while first < len(self._state.keys):
                end = min(first + PURGE_SLOTS, len(self._state.keys))
                first = kernels.purge(self._state, holder, first, end)
                if first < end:
                    self._grow()
                yield
                if not self.num_held(worker, tier):
                    return

    def held(self, worker: int, tier: Tier) -> BlockKeys:
        """All of them, in no order. Looks at the whole table: some milliseconds for a million."""
        found = np.zeros(self.num_held(worker, tier), np.uint64)
        if len(found):
            kernels.held(self._state, worker * NUM_TIERS + tier, found)
        return found

    def held_from_first(self, worker: int, tier: Tier, keys: BlockKeys) -> int:
        """How many blocks of one prompt, from its first on, this worker holds on this tier."""
        if not self._knows(worker):
            return 0
        return int(kernels.held_from_first(self._state, keys, worker * NUM_TIERS + tier))

    def match(self, keys: BlockKeys) -> Match:
        """For the blocks of one prompt, in their order."""
        on_device = np.zeros(self.max_workers, np.int32)
        anywhere = np.zeros(self.max_workers, np.int32)
        bits = np.zeros((4, self._state.many.shape[1]), np.uint64)
        values = np.zeros(min(len(keys), kernels.CHUNK), np.uint32)
        kernels.match(self._state, keys, on_device, anywhere, bits, values)
        return Match(on_device, anywhere)

    def _knows(self, worker: int) -> bool:
        return worker < self.max_workers

    def _widen(self, worker: int) -> None:
        if worker >= MAX_WORKERS:
            raise ValueError(f"worker {worker}: there are up to {MAX_WORKERS}")
        many, num_words = self._state.many, self._state.many.shape[1]
        while worker >= num_words * WORD_BITS:
            num_words *= 2
        wider = np.zeros((len(many), num_words, NUM_TIERS), np.uint64)
        wider[:, : many.shape[1]] = many
        counts = np.zeros(num_words * WORD_BITS * NUM_TIERS, np.int64)
        counts[: len(self._state.counts)] = self._state.counts
        self._state = self._state._replace(many=wider, counts=counts)

    def _grow(self) -> None:
        """Whatever has no room left."""
        state, sizes = self._state, self._state.sizes
        if sizes[NUM_USED] >= len(state.keys) * kernels.MOST_EIGHTHS // 8:
            keys = np.zeros(2 * len(state.keys), np.uint64)
            values = np.zeros(len(keys), np.uint32)
            kernels.move_all(state, keys, values)
            state = state._replace(keys=keys, values=values)
        if not sizes[NUM_FREE_FEW]:
            number = more(len(state.few))
            sizes[NUM_FREE_FEW] = number - len(state.few)
            state = state._replace(
                few=longer(state.few, number), free_few=numbers(len(state.few), number)
            )
        if not sizes[NUM_FREE_MANY]:
            number = more(len(state.many))
            sizes[NUM_FREE_MANY] = number - len(state.many)
            state = state._replace(
                many=longer(state.many, number),
                many_sizes=longer(state.many_sizes, number),
                many_blocks=longer(state.many_blocks, number),
                many_keys=longer(state.many_keys, number),
                free_many=numbers(len(state.many), number),
            )
            # At most half full.
            set_keys = np.zeros(1 << (2 * number - 1).bit_length(), np.uint64)
            set_values = np.zeros(len(set_keys), np.uint32)
            kernels.index_sets(state, set_keys, set_values)
            state = state._replace(set_keys=set_keys, set_values=set_values)
        self._state = state


def more(number: int) -> int:
    return max(FIRST_RECORDS, number + number // 2)


def longer(array: NDArray[T], number: int) -> NDArray[T]:
    """The same, with zeros behind."""
    grown = np.zeros((number, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def numbers(first: int, end: int) -> NDArray[np.int32]:
    """These, and room for all up to `end`."""
    free = np.zeros(end, np.int32)
    free[: end - first] = np.arange(first, end)
    return free
