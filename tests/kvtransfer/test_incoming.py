from __future__ import annotations

import random

import pytest

from kvtransfer.errors import MalformedMessage
from kvtransfer.incoming import Incoming
from kvtransfer.segment import Segment
from tests.kvtransfer.builders import LAYOUT, make_order, make_segment


def make_incoming(first_token: int = 0, num_tokens: int = 10) -> Incoming:
    """Its blocks are 100, 101, …"""
    order = make_order(first_token=first_token, num_tokens=num_tokens)
    return Incoming(order, LAYOUT, opened_at=0.0, deadline=30.0)


def parts_of(num_tokens: int) -> list[Segment]:
    """One segment for each block of each layer."""
    return [
        make_segment(layer, first, min(LAYOUT.block_size, num_tokens - first))
        for layer in range(LAYOUT.num_layers)
        for first in range(0, num_tokens, LAYOUT.block_size)
    ]


@pytest.mark.parametrize(
    ("segment", "blocks"),
    [
        pytest.param(make_segment(first_token=8, num_tokens=4), (100,), id="first-block"),
        pytest.param(make_segment(first_token=12, num_tokens=8), (101, 102), id="middle"),
        pytest.param(make_segment(first_token=20, num_tokens=3), (103,), id="partial-end"),
        pytest.param(
            make_segment(first_token=8, num_tokens=15), (100, 101, 102, 103), id="everything"
        ),
    ],
)
def test_a_segment_goes_to_the_blocks_of_its_tokens(
    segment: Segment, blocks: tuple[int, ...]
) -> None:
    assert make_incoming(first_token=8, num_tokens=15).blocks_of(segment) == blocks


@pytest.mark.parametrize("seed", range(20))
def test_segments_may_land_in_any_order(seed: int) -> None:
    incoming = make_incoming()
    parts = parts_of(10)
    random.Random(seed).shuffle(parts)
    for segment in parts:
        assert not incoming.is_complete
        incoming.blocks_of(segment)
        incoming.landed(segment)
    assert incoming.is_complete


@pytest.mark.parametrize(
    ("again", "complaint"),
    [
        pytest.param(make_segment(0, 0, 4), "came twice", id="same"),
        pytest.param(make_segment(0, 0, 8), "came twice", id="overlapping"),
        pytest.param(make_segment(0, 0, 10), "came twice", id="containing"),
    ],
)
def test_a_segment_that_came_already_is_malformed(again: Segment, complaint: str) -> None:
    incoming = make_incoming()
    incoming.landed(make_segment(0, 0, 4))
    with pytest.raises(MalformedMessage, match=complaint):
        incoming.blocks_of(again)
    assert incoming.blocks_of(make_segment(1, 0, 4)) == (100,)


@pytest.mark.parametrize(
    ("segment", "complaint"),
    [
        pytest.param(make_segment(layer=3, first_token=8), "layer 3 of 3", id="layer"),
        pytest.param(make_segment(first_token=4), "no blocks", id="before"),
        pytest.param(make_segment(first_token=20, num_tokens=4), "no blocks", id="beyond"),
        pytest.param(make_segment(first_token=24), "no blocks", id="behind"),
        pytest.param(make_segment(first_token=8, num_tokens=0), "no blocks", id="empty"),
        pytest.param(make_segment(first_token=9, num_tokens=4), "no blocks", id="off-the-border"),
        pytest.param(make_segment(first_token=8, num_tokens=3), "in part", id="part-of-a-block"),
        pytest.param(
            make_segment(first_token=8, num_tokens=1 << 31, payload_bytes=64),
            "no blocks",
            id="absurd",
        ),
        pytest.param(
            make_segment(first_token=8, payload_bytes=63), "63 bytes for 4 tokens", id="too-short"
        ),
        pytest.param(
            make_segment(first_token=20, num_tokens=3, payload_bytes=3 * 16),
            "48 bytes for 3 tokens",
            id="tokens-for-blocks",
        ),
    ],
)
def test_a_segment_that_was_not_asked_for_is_malformed(segment: Segment, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        make_incoming(first_token=8, num_tokens=15).blocks_of(segment)


def test_each_rank_loads_from_the_rank_of_its_number() -> None:
    order = make_order(source_addresses=(b"rank-0", b"rank-1"))
    assert order.for_rank(1).source_address == b"rank-1"
    assert order.for_rank(1).block_ids == order.block_ids
