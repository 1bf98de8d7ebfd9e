"""What to take out of a paged cache for one segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvtransfer.conversion import Conversion
from kvtransfer.delivery import Delivery, Stretch
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout, Shard


@dataclass(frozen=True, slots=True)
class Cut:
    """`layer` and `heads` are counted within the source rank's own cache.

    `block_ids` are its blocks, `num_in` for each group of the conversion; of the target's
    blocks that come of it, the first `skip` are left out and `num_blocks` are wanted. The
    first `num_tokens` tokens of these have been computed.
    """

    layer: int
    heads: range
    block_ids: Sequence[int]
    conversion: Conversion
    skip: int
    num_blocks: int
    num_tokens: int
    target: KvLayout
    wire: WireFormat = WireFormat.RAW

    @classmethod
    def of(
        cls, shard: Shard, delivery: Delivery, stretch: Stretch, block_ids: Sequence[int]
    ) -> Cut:
        conversion, heads = delivery.conversion, delivery.overlap.heads
        first, number = stretch.first_block, stretch.num_blocks
        size = delivery.target.block_size
        return cls(
            layer=stretch.layer - shard.first_layer,
            heads=range(heads.start - shard.first_head, heads.stop - shard.first_head),
            block_ids=conversion.source_blocks(block_ids, first, number),
            conversion=conversion,
            skip=first - conversion.groups(first, number).start * conversion.num_out,
            num_blocks=number,
            num_tokens=min(number * size, delivery.end_token - first * size),
            target=delivery.target,
            wire=delivery.wire,
        )
