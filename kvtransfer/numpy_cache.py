"""A paged cache in ordinary memory: for tests, simulations and the performance test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvtransfer.cut import Cut
from kvtransfer.errors import LayoutUnsupported
from kvtransfer.incoming import Place
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout


class NumpyPagedCache:
    """See `PagedCache`. `blocks` has the shape (layers, blocks, heads, bytes of a head's share)
    of the rank. Only the raw wire format is known here.
    """

    def __init__(self, layout: KvLayout, num_blocks: int, rank: int = 0) -> None:
        self.layout = layout
        self.rank = rank
        shard = layout.shard(rank)
        shape = (shard.num_layers, num_blocks, shard.num_heads, layout.head_bytes)
        self.blocks: NDArray[np.uint8] = np.zeros(shape, np.uint8)

    def mark_computed(self, layer: int) -> None:
        """Nothing: what has been written to memory can be read."""

    def pack(self, cut: Cut, out: Slot) -> None:
        _check_raw(cut.wire)
        heads, end = slice(cut.heads.start, cut.heads.stop), cut.skip + cut.num_blocks
        if cut.conversion.gather is None:
            parts = out.reshape(cut.num_blocks, len(cut.heads), -1)
            for part, block in zip(parts, cut.block_ids[cut.skip : end], strict=True):
                part[:] = self.blocks[cut.layer, block, heads]
            return
        taken = self.blocks[cut.layer, list(cut.block_ids), heads]
        width = self.layout.element_bytes
        groups = taken.reshape(-1, cut.conversion.num_in, len(cut.heads), taken.shape[-1])
        elements = groups.swapaxes(1, 2).reshape(len(groups), len(cut.heads), -1, width)
        gathered = elements[:, :, cut.conversion.gather]
        blocks = gathered.reshape(len(groups), len(cut.heads), cut.conversion.num_out, -1)
        out[:] = (
            blocks.swapaxes(1, 2)
            .reshape(-1, len(cut.heads), blocks.shape[-1])[cut.skip : end]
            .ravel()
        )

    def unpack(self, place: Place, wire: WireFormat, data: Slot) -> None:
        _check_raw(wire)
        heads = slice(place.heads.start, place.heads.stop)
        parts = data.reshape(len(place.block_ids), len(place.heads), -1)
        for block, part in zip(place.block_ids, parts, strict=True):
            self.blocks[place.layer, block, heads] = part


def _check_raw(wire: WireFormat) -> None:
    if wire is not WireFormat.RAW:
        raise LayoutUnsupported(f"a cache without numbers cannot use the wire format {wire}")
