"""A fixed number of equal slots, through which every segment passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kvtransfer.errors import StagingExhausted

Slot = NDArray[np.uint8]


def allocate(num_bytes: int) -> Slot:
    """Ordinary memory; an engine on a GPU passes pinned memory instead."""
    return np.zeros(num_bytes, np.uint8)


class StagingPool:
    """Owns `num_slots` buffers of `slot_bytes`; memory in use never exceeds their product.

    Not thread-safe: the transfer thread is its only user.
    """

    def __init__(
        self, num_slots: int, slot_bytes: int, allocate: Callable[[int], Slot] = allocate
    ) -> None:
        if num_slots < 1:
            raise ValueError("a staging pool has at least one slot")
        self.num_slots = num_slots
        self.slot_bytes = slot_bytes
        self._free: list[Slot] = [allocate(slot_bytes) for _ in range(num_slots)]
        self._held: dict[int, Slot] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def fair_share(self) -> int:
        """Slots that one peer may hold at a time."""
        return max(1, self.num_slots // 2)

    @property
    def held_bytes(self) -> int:
        return len(self._held) * self.slot_bytes

    def acquire(self) -> Slot:
        """Raises StagingExhausted when no slot is free."""
        if not self._free:
            raise StagingExhausted(f"all {self.num_slots} staging slots are held")
        slot = self._free.pop()
        self._held[id(slot)] = slot
        return slot

    def release(self, slot: Slot) -> None:
        del self._held[id(slot)]
        self._free.append(slot)

    def check_integrity(self) -> None:
        assert len(self._free) + len(self._held) == self.num_slots, repr(self)

    def __repr__(self) -> str:
        return f"<StagingPool {len(self._held)} of {self.num_slots} slots held>"
