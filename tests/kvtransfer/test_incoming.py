from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kvtransfer.errors import MalformedMessage
from kvtransfer.incoming import Incoming, Place
from kvtransfer.segment import Segment
from kvtransfer.wire import WireFormat
from tests.kvtransfer.builders import LAYOUT, make_order, make_segment

FOUR_HEADS = replace(LAYOUT, num_heads=4, stage_layers=(2, 3), tensor_parallel_size=2)
LAST = FOUR_HEADS.shard(3)  # layers 2 to 4, heads 2 and 3


def make_incoming(first_token: int = 0, num_tokens: int = 10) -> Incoming:
    """Its blocks are 100, 101, …"""
    order = make_order(first_token=first_token, num_tokens=num_tokens)
    return Incoming(order, LAYOUT, LAYOUT.shard(0), opened_at=0.0, deadline=30.0)


def make_incoming_of_a_rank(first_token: int = 0, num_tokens: int = 10) -> Incoming:
    order = make_order(first_token=first_token, num_tokens=num_tokens)
    return Incoming(order, FOUR_HEADS, LAST, opened_at=0.0, deadline=30.0)


@pytest.mark.parametrize(
    ("segment", "blocks"),
    [
        pytest.param(make_segment(first_block=2), (100,), id="first-block"),
        pytest.param(make_segment(first_block=3, num_blocks=2), (101, 102), id="middle"),
        pytest.param(make_segment(first_block=5), (103,), id="end"),
        pytest.param(
            make_segment(first_block=2, num_blocks=4), (100, 101, 102, 103), id="everything"
        ),
    ],
)
def test_a_segment_goes_to_the_blocks_of_its_tokens(
    segment: Segment, blocks: tuple[int, ...]
) -> None:
    incoming = make_incoming(first_token=8, num_tokens=15)
    assert incoming.place_of(segment) == Place(0, range(2), blocks)


@pytest.mark.parametrize(
    ("layer", "heads", "place"),
    [
        pytest.param(2, range(2, 4), Place(0, range(2), (100,)), id="all-heads"),
        pytest.param(4, range(2, 3), Place(2, range(1), (100,)), id="first-head"),
        pytest.param(3, range(3, 4), Place(1, range(1, 2), (100,)), id="second-head"),
    ],
)
def test_a_place_is_counted_within_the_rank(layer: int, heads: range, place: Place) -> None:
    assert make_incoming_of_a_rank().place_of(make_segment(layer, heads=heads)) == place


def test_awaited_bytes_are_those_of_the_blocks_in_this_rank() -> None:
    assert make_incoming(8, 15).awaited_bytes == 4 * 2 * 3 * LAYOUT.head_bytes
    assert make_incoming_of_a_rank(0, 9).awaited_bytes == 3 * 2 * 3 * FOUR_HEADS.head_bytes


@pytest.mark.parametrize("seed", range(20))
def test_segments_may_land_in_any_order(seed: int) -> None:
    incoming = make_incoming_of_a_rank(num_tokens=10)
    parts = [
        make_segment(layer, block, heads=range(head, head + 1))
        for layer in LAST.layers
        for block in range(3)
        for head in LAST.heads
    ]
    random.Random(seed).shuffle(parts)
    for segment in parts:
        assert not incoming.is_complete
        incoming.place_of(segment)
        incoming.landed(segment)
    assert incoming.is_complete


def test_a_load_is_complete_whatever_the_shape_of_its_segments() -> None:
    incoming = make_incoming_of_a_rank(num_tokens=10)
    for segment in (
        make_segment(2, 0, 3, heads=range(2, 4)),
        make_segment(3, 0, 3, heads=range(2, 3)),
        make_segment(3, 0, 1, heads=range(3, 4)),
        make_segment(3, 1, 2, heads=range(3, 4)),
        make_segment(4, 1, 2, heads=range(2, 4)),
    ):
        incoming.place_of(segment)
        incoming.landed(segment)
    assert not incoming.is_complete
    incoming.landed(make_segment(4, 0, 1, heads=range(2, 4)))
    assert incoming.is_complete


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(make_segment(2, 1, 1, heads=range(2, 3)), id="same"),
        pytest.param(make_segment(2, 0, 2, heads=range(2, 3)), id="overlapping"),
        pytest.param(make_segment(2, 0, 3, heads=range(2, 3)), id="containing"),
        pytest.param(make_segment(2, 1, 1, heads=range(2, 4)), id="another-head-too"),
    ],
)
def test_a_segment_that_came_already_is_malformed(again: Segment) -> None:
    incoming = make_incoming_of_a_rank()
    incoming.landed(make_segment(2, 1, 1, heads=range(2, 3)))
    with pytest.raises(MalformedMessage, match="came twice"):
        incoming.place_of(again)
    assert incoming.place_of(make_segment(2, 1, 1, heads=range(3, 4))).block_ids == (101,)
    assert incoming.place_of(make_segment(3, 1, 1, heads=range(2, 3))).block_ids == (101,)


@pytest.mark.parametrize(
    ("segment", "complaint"),
    [
        pytest.param(make_segment(layer=3, first_block=2), "layer 3", id="layer"),
        pytest.param(make_segment(first_block=1), "blocks -1-0 of 4", id="before"),
        pytest.param(make_segment(first_block=6), "blocks 4-5 of 4", id="behind"),
        pytest.param(make_segment(first_block=5, num_blocks=2), "blocks 3-5 of 4", id="beyond"),
        pytest.param(make_segment(first_block=2, num_blocks=0), "blocks 0-0 of 4", id="empty"),
        pytest.param(
            make_segment(first_block=2, num_blocks=1 << 31, payload_bytes=64),
            "blocks 0-2147483648 of 4",
            id="absurd",
        ),
        pytest.param(make_segment(first_block=2, heads=range(1, 3)), "heads", id="heads"),
        pytest.param(
            make_segment(first_block=2, heads=range(65535), payload_bytes=64),
            "heads",
            id="absurd-heads",
        ),
        pytest.param(
            make_segment(first_block=2, heads=range(0), payload_bytes=64), "heads", id="no-heads"
        ),
        pytest.param(
            make_segment(first_block=2, payload_bytes=63), "63 bytes where 64", id="too-short"
        ),
        pytest.param(
            make_segment(first_block=5, payload_bytes=48), "48 bytes where 64", id="part-of-a-block"
        ),
        pytest.param(
            make_segment(first_block=5, payload_bytes=64, wire=WireFormat.FP8),
            "64 bytes where 32",
            id="another-form's",
        ),
    ],
)
def test_a_segment_that_was_not_asked_for_is_malformed(segment: Segment, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        make_incoming(first_token=8, num_tokens=15).place_of(segment)


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(make_segment(1, heads=range(2, 4)), id="layer-of-the-stage-before"),
        pytest.param(make_segment(5, heads=range(2, 4)), id="layer-of-nobody"),
        pytest.param(make_segment(2, heads=range(2)), id="heads-of-the-rank-before"),
        pytest.param(make_segment(2, heads=range(4)), id="heads-of-both-ranks"),
    ],
)
def test_what_belongs_to_another_rank_is_malformed(segment: Segment) -> None:
    with pytest.raises(MalformedMessage, match=r"(is|are) not among"):
        make_incoming_of_a_rank().place_of(segment)
