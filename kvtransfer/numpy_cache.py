"""A paged cache in ordinary memory: for tests, simulations and the performance test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kvtransfer.layout import KvLayout
from kvtransfer.staging import Slot


class NumpyPagedCache:
    """See `PagedCache`. `blocks` has the shape (layers, blocks, bytes of a block)."""

    def __init__(self, layout: KvLayout, num_blocks: int) -> None:
        self.layout = layout
        shape = (layout.num_layers, num_blocks, layout.block_bytes)
        self.blocks: NDArray[np.uint8] = np.zeros(shape, np.uint8)

    def mark_computed(self, layer: int) -> None:
        """Nothing: what has been written to memory can be read."""

    def pack(self, layer: int, block_ids: Sequence[int], out: Slot) -> None:
        for block, part in zip(block_ids, self._parts(out), strict=True):
            part[:] = self.blocks[layer, block]

    def unpack(self, layer: int, block_ids: Sequence[int], data: Slot) -> None:
        for block, part in zip(block_ids, self._parts(data), strict=True):
            self.blocks[layer, block] = part

    def _parts(self, wire: Slot) -> NDArray[np.uint8]:
        return wire.reshape(-1, self.layout.block_bytes)
