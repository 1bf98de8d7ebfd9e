"""What one rank of the receiver gets of one ticket: how far it has been packed and sent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache

from kvtransfer.causes import Cause
from kvtransfer.conversion import Conversion, Overlap, conversion, overlap
from kvtransfer.errors import DemandRefused
from kvtransfer.messages import Demand
from kvtransfer.wire import WireFormat, agree, head_bytes
from proto.layout import KvLayout, Shard, obstacle


@dataclass(frozen=True, slots=True)
class Source:
    """What one rank can send: its own layout and share, and what it offers.

    No segment has more payload than `max_payload_bytes`.
    """

    layout: KvLayout
    rank: int
    max_payload_bytes: int
    wire: WireFormat = WireFormat.RAW

    @property
    def shard(self) -> Shard:
        return self.layout.shard(self.rank)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Blocks [first_block, first_block + num_blocks) of the receiver in `layer`."""

    layer: int
    first_block: int
    num_blocks: int


@dataclass(slots=True)
class Delivery:
    """`sent[i]` is the next block of the i-th layer of the overlap to be packed."""

    demand: Demand
    target: KvLayout
    overlap: Overlap
    conversion: Conversion
    wire: WireFormat
    max_blocks: int
    first_block: int
    sent: list[int]
    num_in_flight: int = 0
    sent_bytes: int = 0
    _work: deque[int] = field(default_factory=deque)

    @property
    def end_token(self) -> int:
        """One past the last token asked for."""
        return self.demand.first_token + self.demand.num_tokens

    @property
    def end_block(self) -> int:
        return self.target.num_blocks(self.end_token)

    @property
    def is_complete(self) -> bool:
        """Everything asked for has left."""
        if self.num_in_flight:
            return False
        return self.demand.num_tokens == 0 or all(sent >= self.end_block for sent in self.sent)

    @property
    def block_bytes(self) -> int:
        """Of one block on the wire, with the heads that go to this rank."""
        return len(self.overlap.heads) * head_bytes(self.target, self.wire)

    def has_news(self, layer: int) -> None:
        """There may be something to send in `layer`."""
        if self.demand.num_tokens and layer in self.overlap.layers and layer not in self._work:
            self._work.append(layer)

    def forget_news(self) -> None:
        """The blocks are gone; the prompt is computed again."""
        self._work.clear()

    def next_stretch(self, computed: dict[int, int]) -> Stretch | None:
        """What to pack next, or None for now. `computed[l]` tokens of layer l are in the cache.

        Only whole blocks go, except at the end of the demand.
        """
        while self._work:
            layer = self._work[0]
            index = layer - self.overlap.layers.start
            first = self.sent[index]
            end = min(self._sendable(computed[layer]), first + self.max_blocks)
            if end > first:
                self.sent[index] = end
                return Stretch(layer, first, end - first)
            self._work.popleft()
        return None

    def _sendable(self, num_computed: int) -> int:
        if num_computed >= self.end_token:
            return self.end_block
        return num_computed // self.target.block_size


def deliver(source: Source, demand: Demand) -> Delivery:
    """Raises DemandRefused for a demand that cannot be met."""
    target = _layout(demand.layout)
    if demand.rank >= target.num_ranks:
        raise DemandRefused(Cause.LAYOUT, f"rank {demand.rank} of {target.num_ranks}")
    if demand.first_token % target.block_size:
        raise DemandRefused(Cause.LAYOUT, f"first token {demand.first_token} is inside a block")
    if reason := obstacle(source.layout, target):
        raise DemandRefused(Cause.LAYOUT, reason)
    shared = overlap(source.shard, target.shard(demand.rank), demand.rank)
    wire = agree(demand.wire, source.wire, source.layout)
    delivery = Delivery(
        demand,
        target,
        shared,
        _conversion(source.layout, target),
        wire,
        max_blocks=0,
        first_block=demand.first_token // target.block_size,
        sent=[demand.first_token // target.block_size] * len(shared.layers),
    )
    _fit(delivery, min(demand.max_payload_bytes, source.max_payload_bytes))
    for layer in shared.layers:
        delivery.has_news(layer)
    return delivery


def _fit(delivery: Delivery, max_payload_bytes: int) -> None:
    if delivery.overlap.is_empty:
        return
    delivery.max_blocks = max_payload_bytes // delivery.block_bytes
    if not delivery.max_blocks:
        raise DemandRefused(
            Cause.LAYOUT,
            f"a block of {delivery.block_bytes} bytes finds no room in staging slots for "
            f"{max_payload_bytes}: use larger slots",
        )


@lru_cache(maxsize=64)
def _layout(text: str) -> KvLayout:
    try:
        return KvLayout.from_json(text)
    except ValueError as error:
        raise DemandRefused(Cause.LAYOUT, f"the receiver's layout: {error}") from error


def _conversion(source: KvLayout, target: KvLayout) -> Conversion:
    try:
        return conversion(source, target)
    except ValueError as error:
        raise DemandRefused(Cause.LAYOUT, str(error)) from error
