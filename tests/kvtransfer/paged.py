"""A paged cache by token: where what lies, worked out by plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kvtransfer.cut import Cut
from kvtransfer.incoming import Place
from kvtransfer.numpy_cache import NumpyPagedCache
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout, Part

Kv = NDArray[np.uint8]  # (layers, heads, tokens, bytes of a token in a head)


def kv_of(layout: KvLayout, seed: int, num_tokens: int) -> Kv:
    """What the KV of prompt `seed` is, in the whole model; no byte is 0."""
    token_bytes = layout.content_size * layout.element_bytes
    shape = (layout.num_layers, layout.num_heads, num_tokens, token_bytes)
    return np.random.default_rng(seed).integers(1, 256, shape, np.uint8)


@cache
def places(layout: KvLayout) -> NDArray[np.int64]:
    """(tokens, elements): the position of each in the memory of a head's share of a block."""
    size = layout.block_size * layout.content_size
    parts = layout.interior or (Part(0, ((size, 1),)),)
    logical = [element_at(part, position) for part in parts for position in range(part.size)]
    assert sorted(logical) == list(range(size))
    found = np.zeros(size, np.int64)
    found[logical] = range(size)
    return found.reshape(layout.block_size, layout.content_size)


def element_at(part: Part, position: int) -> int:
    """One element of the logical order, as `Part` defines it."""
    element = part.start
    for extent, stride in reversed(part.digits):
        position, digit = divmod(position, extent)
        element += digit * stride
    return element


class TokenCache(NumpyPagedCache):
    """A rank's cache that is written and read by token; the prompt's `block_ids` are given.

    `before_copy` is called before each copy, on the transfer thread.
    """

    before_copy: Callable[[], object] | None = None

    def pack(self, cut: Cut, out: Slot) -> None:
        if self.before_copy:
            self.before_copy()
        super().pack(cut, out)

    def unpack(self, place: Place, wire: WireFormat, data: Slot) -> None:
        if self.before_copy:
            self.before_copy()
        super().unpack(place, wire, data)

    def write(self, layer: int, kv: Kv, block_ids: Sequence[int], tokens: range) -> None:
        """The rank's heads of these tokens; `layer` is counted through the model."""
        shard = self.layout.shard(self.rank)
        blocks, within = self._where(block_ids, tokens)
        parts = kv[layer, shard.heads.start : shard.heads.stop, tokens.start : tokens.stop]
        elements = parts.reshape(*parts.shape[:2], -1, self.layout.element_bytes)
        self._elements[layer - shard.first_layer][blocks, :, within] = elements.transpose(
            1, 2, 0, 3
        )

    def tokens(self, block_ids: Sequence[int]) -> Kv:
        """Everything in these blocks: the rank's layers and heads."""
        tokens = range(len(block_ids) * self.layout.block_size)
        blocks, within = self._where(block_ids, tokens)
        found = self._elements[:, blocks, :, within]
        return found.transpose(2, 3, 0, 1, 4).reshape(*found.shape[2:4], len(tokens), -1)

    def _where(
        self, block_ids: Sequence[int], tokens: range
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each element's block and position, as (tokens, elements)."""
        index, within = np.divmod(np.array(tokens), self.layout.block_size)
        return np.array(block_ids)[index][:, None], places(self.layout)[within]

    @property
    def _elements(self) -> NDArray[np.uint8]:
        """(layers, blocks, heads, elements, bytes)"""
        return self.blocks.reshape(*self.blocks.shape[:3], -1, self.layout.element_bytes)
