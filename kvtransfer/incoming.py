"""One ticket on the decode side: which of its tokens have landed in the paged cache."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kvtransfer.errors import MalformedMessage
from kvtransfer.layout import KvLayout
from kvtransfer.segment import Segment


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What the engine asks for: the KV of prompt tokens [first_token, first_token + num_tokens).

    `block_ids` are the decode engine's blocks for exactly these tokens, in prompt order;
    `source` names the prefill worker, `source_addresses` has one address for each of its ranks.
    """

    ticket: bytes
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

    @property
    def source_address(self) -> bytes:
        return self.source_addresses[0]

    def for_rank(self, rank: int) -> LoadOrder:
        """What rank `rank` has to do: it loads from the source's rank of the same number."""
        return replace(self, source_addresses=(self.source_addresses[rank],))


@dataclass(slots=True)
class Incoming:
    """State of one load. `missing[l]` has a bit for each block of layer l yet to land."""

    order: LoadOrder
    layout: KvLayout
    opened_at: float
    deadline: float
    missing: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing = [(1 << len(self.order.block_ids)) - 1] * self.layout.num_layers

    @property
    def is_complete(self) -> bool:
        return not any(self.missing)

    def blocks_of(self, segment: Segment) -> tuple[int, ...]:
        """The engine's blocks that `segment` fills.

        Raises MalformedMessage if the segment is not a part of what was asked for, or came twice.
        """
        mask = self._mask(segment)
        if self.missing[segment.layer] & mask != mask:
            raise MalformedMessage(f"layer {segment.layer}: a segment came twice")
        first = (segment.first_token - self.order.first_token) // self.layout.block_size
        return self.order.block_ids[first : first + mask.bit_count()]

    def landed(self, segment: Segment) -> None:
        self.missing[segment.layer] &= ~self._mask(segment)

    def _mask(self, segment: Segment) -> int:
        order, size = self.order, self.layout.block_size
        if segment.layer >= self.layout.num_layers:
            raise MalformedMessage(f"layer {segment.layer} of {self.layout.num_layers}")
        inside = order.first_token <= segment.first_token < segment.end_token <= order.end_token
        if not inside or (segment.first_token - order.first_token) % size:
            raise MalformedMessage(
                f"tokens {segment.first_token}-{segment.end_token} are no blocks "
                f"of {order.first_token}-{order.end_token}"
            )
        if segment.num_tokens % size and segment.end_token != order.end_token:
            raise MalformedMessage("a block came in part")
        if segment.payload_bytes != self.layout.layer_bytes(segment.num_tokens):
            raise MalformedMessage(f"{segment.payload_bytes} bytes for {segment.num_tokens} tokens")
        first = (segment.first_token - order.first_token) // size
        return ((1 << self.layout.num_blocks(segment.num_tokens)) - 1) << first
