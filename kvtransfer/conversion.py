"""How blocks of one layout become blocks of another: done by the sender, for one receiver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm

import numpy as np
from numpy.typing import NDArray

from kvtransfer.interior import Positions, logical_of_positions, positions_of_logical
from proto.layout import MAX_HEAD_ELEMENTS, KvLayout, Shard


@dataclass(frozen=True, slots=True)
class Overlap:
    """What one rank has to send to another: layers and heads, counted through the model."""

    layers: range
    heads: range

    @property
    def is_empty(self) -> bool:
        return not self.layers or not self.heads


NOTHING = Overlap(range(0), range(0))


def overlap(source: Shard, target: Shard, target_rank: int) -> Overlap:
    """Of several ranks that hold the same heads, the receiver's number chooses one."""
    shared = Overlap(_both(source.layers, target.layers), _both(source.heads, target.heads))
    is_ours = target_rank % source.num_replicas == source.replica
    return shared if is_ours and shared.layers and shared.heads else NOTHING


@dataclass(frozen=True, slots=True)
class Conversion:
    """`num_in` blocks of the source hold the same tokens as `num_out` blocks of the target.

    `gather[p]` is the element, in the memory of a head's share of those `num_in` blocks one
    after the other, that comes to position p of the `num_out` blocks; None: they are equal.
    """

    num_in: int
    num_out: int
    gather: Positions | None

    def groups(self, first_block: int, num_blocks: int) -> range:
        """The groups of `num_out` blocks that hold these blocks of the target."""
        return range(first_block // self.num_out, -(-(first_block + num_blocks) // self.num_out))

    def source_blocks(
        self, block_ids: Sequence[int], first_block: int, num_blocks: int
    ) -> list[int]:
        """The source's blocks of those groups. Past the end, where no token is, the last."""
        groups = self.groups(first_block, num_blocks)
        last = len(block_ids) - 1
        wanted = range(groups.start * self.num_in, groups.stop * self.num_in)
        return [block_ids[min(each, last)] for each in wanted]


@lru_cache(maxsize=64)
def conversion(source: KvLayout, target: KvLayout) -> Conversion:
    """Raises ValueError if an interior is none. There must be no `obstacle`."""
    if source.block_size == target.block_size and source.interior == target.interior:
        return Conversion(1, 1, None)
    num_tokens = lcm(source.block_size, target.block_size)
    if num_tokens * source.content_size > MAX_HEAD_ELEMENTS:
        raise ValueError(
            f"blocks of {source.block_size} and {target.block_size} tokens meet only every "
            f"{num_tokens} tokens"
        )
    num_in, num_out = num_tokens // source.block_size, num_tokens // target.block_size
    token, element = np.divmod(_logical(target, num_out), target.content_size)
    block, within = np.divmod(token, source.block_size)
    places = positions_of_logical(source)[within * source.content_size + element]
    return Conversion(num_in, num_out, block * len(positions_of_logical(source)) + places)


def _logical(layout: KvLayout, num_blocks: int) -> NDArray[np.int64]:
    one = logical_of_positions(layout)
    starts: NDArray[np.int64] = np.arange(num_blocks, dtype=np.int64) * len(one)
    return (starts[:, None] + one).ravel()


def _both(ours: range, theirs: range) -> range:
    return range(max(ours.start, theirs.start), min(ours.stop, theirs.stop))
