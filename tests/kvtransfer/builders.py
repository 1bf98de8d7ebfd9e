"""Small things that the tests of kvtransfer are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from kvtransfer.delivery import Source
from kvtransfer.incoming import LoadOrder
from kvtransfer.messages import Demand
from kvtransfer.seal import Seal
from kvtransfer.segment import Segment
from kvtransfer.wire import WireFormat, head_bytes
from proto.fleet_key import KEY_BYTES, FleetKey
from proto.layout import KvLayout, Part

PATIENCE_SECONDS = 10.0
LAYOUT = KvLayout(
    block_size=4, num_heads=2, content_size=2, key_size=1, dtype="float32", stage_layers=(3,)
)
SEAL = Seal(FleetKey(b"k" * KEY_BYTES))
_loads = count(1)


def layer_bytes(num_tokens: int, layout: KvLayout = LAYOUT) -> int:
    """Of the blocks that so many tokens take, in one layer of the whole engine."""
    return layout.num_blocks(num_tokens) * layout.num_heads * layout.head_bytes


def prompt_bytes(num_tokens: int, layout: KvLayout = LAYOUT) -> int:
    """Of the blocks that so many tokens take."""
    return layout.num_layers * layer_bytes(num_tokens, layout)


def transposed(block_size: int, content_size: int) -> tuple[Part, ...]:
    """All of K before all of V, K with its tokens side by side."""
    half = content_size // 2
    tokens, elements = (block_size, content_size), (half, 1)
    return (Part(0, (elements, tokens)), Part(half, (tokens, elements)))


def tiled(block_size: int, content_size: int, tile: int) -> tuple[Part, ...]:
    """All of K before all of V, both in tiles: K of `tile` tokens by pairs of elements, V of
    pairs of tokens by `tile` elements.
    """
    half = content_size // 2
    k = ((block_size // tile, tile * content_size), (half // 2, 2), (tile, content_size), (2, 1))
    v = ((half // tile, tile), (block_size // 2, 2 * content_size), (tile, 1), (2, content_size))
    return (Part(0, k), Part(half, v))


def make_ticket(number: int = 1) -> bytes:
    return number.to_bytes(16)


def make_load(number: int = 1) -> bytes:
    """What `load` is in an order or a demand."""
    return b"load" + number.to_bytes(12)


def new_load() -> bytes:
    """One that no other order has."""
    return b"new load" + next(_loads).to_bytes(8)


def make_source(
    layout: KvLayout = LAYOUT,
    rank: int = 0,
    max_payload_bytes: int = 1 << 20,
    wire: WireFormat = WireFormat.RAW,
) -> Source:
    return Source(layout, rank, max_payload_bytes, wire)


def make_demand(
    ticket: bytes | None = None,
    first_token: int = 0,
    num_tokens: int = 10,
    reply_address: bytes = b"decode",
    layout: KvLayout = LAYOUT,
    max_payload_bytes: int = 1 << 20,
    load: bytes | None = None,
    rank: int = 0,
    wire: WireFormat = WireFormat.RAW,
    lease_seconds: float = 30.0,
) -> Demand:
    return Demand(
        ticket or make_ticket(),
        load or make_load(),
        rank,
        reply_address,
        layout.to_json(),
        first_token,
        num_tokens,
        max_payload_bytes,
        lease_seconds,
        wire,
    )


def make_order(
    ticket: bytes | None = None,
    request_id: str = "d1",
    first_token: int = 0,
    num_tokens: int = 10,
    source_addresses: tuple[bytes, ...] = (b"prefill",),
    lease_seconds: float = 30.0,
    layout: KvLayout = LAYOUT,
    first_block: int = 100,
) -> LoadOrder:
    """Its blocks are numbered from `first_block`, its load is a new one."""
    num_blocks = layout.num_blocks(num_tokens)
    return LoadOrder(
        ticket=ticket or make_ticket(),
        load=new_load(),
        request_id=request_id,
        source="p/1",
        source_addresses=source_addresses,
        lease_seconds=lease_seconds,
        first_token=first_token,
        num_tokens=num_tokens,
        block_ids=tuple(range(first_block, first_block + num_blocks)),
    )


def make_segment(
    layer: int = 0,
    first_block: int = 0,
    num_blocks: int = 1,
    ticket: bytes | None = None,
    heads: range = range(2),
    payload_bytes: int | None = None,
    layout: KvLayout = LAYOUT,
    wire: WireFormat = WireFormat.RAW,
) -> Segment:
    if payload_bytes is None:
        payload_bytes = num_blocks * len(heads) * head_bytes(layout, wire)
    return Segment(
        ticket or make_ticket(),
        layer,
        first_block,
        num_blocks,
        heads.start,
        len(heads),
        payload_bytes,
        wire,
    )


def eventually(holds: Callable[[], bool], patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Returns as soon as `holds()`; fails after a while."""
    deadline = time.monotonic() + patience_seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)
