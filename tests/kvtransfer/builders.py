"""Small things that the tests of kvtransfer are made of."""

from __future__ import annotations

import time
from collections.abc import Callable

from kvtransfer.incoming import LoadOrder
from kvtransfer.layout import KvLayout
from kvtransfer.messages import Demand
from kvtransfer.segment import Segment

PATIENCE_SECONDS = 10.0
LAYOUT = KvLayout(block_size=4, num_layers=3, num_heads=2, content_bytes=8, dtype="float32")


def make_ticket(number: int = 1) -> bytes:
    return number.to_bytes(16)


def make_demand(
    ticket: bytes | None = None,
    first_token: int = 0,
    num_tokens: int = 10,
    reply_address: bytes = b"decode",
    layout: KvLayout = LAYOUT,
    max_segment_tokens: int = 1 << 20,
) -> Demand:
    return Demand(
        ticket or make_ticket(),
        reply_address,
        layout.fingerprint,
        first_token,
        num_tokens,
        max_segment_tokens,
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
    """Its blocks are numbered from `first_block`."""
    num_blocks = layout.num_blocks(num_tokens)
    return LoadOrder(
        ticket=ticket or make_ticket(),
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
    first_token: int = 0,
    num_tokens: int = 4,
    ticket: bytes | None = None,
    payload_bytes: int | None = None,
    layout: KvLayout = LAYOUT,
) -> Segment:
    if payload_bytes is None:
        payload_bytes = layout.layer_bytes(num_tokens)
    return Segment(ticket or make_ticket(), layer, first_token, num_tokens, payload_bytes)


def eventually(holds: Callable[[], bool], patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Returns as soon as `holds()`; fails after a while."""
    deadline = time.monotonic() + patience_seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)
