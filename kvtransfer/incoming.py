"""One ticket on the decode side: which of its KV has landed in the paged cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtransfer.errors import MalformedMessage
from kvtransfer.segment import Segment
from kvtransfer.wire import head_bytes
from proto.layout import KvLayout, Shard


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What the engine asks for: the KV of prompt tokens [first_token, first_token + num_tokens).

    `load` is one number for all ranks, and new for each load. `block_ids` are the decode
    engine's blocks for exactly these tokens, in prompt order; `source` names the prefill
    worker, `source_addresses` has one address for each of its ranks.
    """

    ticket: bytes
    load: bytes
    request_id: str
    source: str
    source_addresses: tuple[bytes, ...]
    lease_seconds: float
    first_token: int
    num_tokens: int
    block_ids: tuple[int, ...]

    @property
    def end_token(self) -> int:
        return self.first_token + self.num_tokens


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment belongs in this rank's cache; layer and heads counted within it."""

    layer: int
    heads: range
    block_ids: tuple[int, ...]


@dataclass(slots=True)
class Incoming:
    """State of one load on one rank.

    `missing[l]` has a bit for each head of each block of the rank's l-th layer that has yet to
    land, the heads of a block next to each other.
    """

    order: LoadOrder
    layout: KvLayout
    shard: Shard
    opened_at: float
    deadline: float
    missing: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        num_bits = len(self.order.block_ids) * self.shard.num_heads
        self.missing = [(1 << num_bits) - 1] * self.shard.num_layers

    @property
    def is_complete(self) -> bool:
        return not any(self.missing)

    @property
    def awaited_bytes(self) -> int:
        """Of the paged cache, in all that this load asked for."""
        head = self.layout.head_bytes * self.shard.num_heads * self.shard.num_layers
        return head * len(self.order.block_ids)

    def place_of(self, segment: Segment) -> Place:
        """Raises MalformedMessage if the segment is not a part of what was asked for, or came
        twice.
        """
        mask = self._mask(segment)
        layer = segment.layer - self.shard.first_layer
        if self.missing[layer] & mask != mask:
            raise MalformedMessage(f"layer {segment.layer}: a segment came twice")
        first = segment.first_block - self._first_block
        head = segment.first_head - self.shard.first_head
        return Place(
            layer,
            range(head, head + segment.num_heads),
            self.order.block_ids[first : first + segment.num_blocks],
        )

    def landed(self, segment: Segment) -> None:
        self.missing[segment.layer - self.shard.first_layer] &= ~self._mask(segment)

    @property
    def _first_block(self) -> int:
        return self.order.first_token // self.layout.block_size

    def _mask(self, segment: Segment) -> int:
        shard, heads = self.shard, segment.heads
        first = segment.first_block - self._first_block
        end = first + segment.num_blocks
        if segment.layer not in shard.layers:
            raise MalformedMessage(f"layer {segment.layer} is not among {shard.layers}")
        if not heads or heads.start not in shard.heads or heads[-1] not in shard.heads:
            raise MalformedMessage(f"heads {heads} are not among {shard.heads}")
        if not 0 <= first < end <= len(self.order.block_ids):
            raise MalformedMessage(f"blocks {first}-{end} of {len(self.order.block_ids)}")
        size = segment.num_blocks * segment.num_heads * head_bytes(self.layout, segment.wire)
        if segment.payload_bytes != size:
            raise MalformedMessage(f"{segment.payload_bytes} bytes where {size} were expected")
        return self._run(first, segment.num_blocks, heads.start - shard.first_head, len(heads))

    def _run(self, first_block: int, num_blocks: int, first_head: int, num_heads: int) -> int:
        width = self.shard.num_heads
        one = ((1 << num_heads) - 1) << first_head
        each = ((1 << num_blocks * width) - 1) // ((1 << width) - 1)
        return (one * each) << first_block * width
