from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from kvtransfer.causes import Cause
from kvtransfer.delivery import Delivery, Source, Stretch, deliver
from kvtransfer.errors import DemandRefused
from kvtransfer.messages import Demand
from kvtransfer.wire import WireFormat
from proto.layout import Part
from tests.kvtransfer.builders import LAYOUT, make_demand, make_source

BLOCK_BYTES = LAYOUT.num_heads * LAYOUT.head_bytes


def deliver_to(demand: Demand, max_payload_bytes: int = 1 << 20) -> Delivery:
    return deliver(make_source(max_payload_bytes=max_payload_bytes), demand)


def stretches(delivery: Delivery, *computed: int) -> list[Stretch]:
    """Everything that can be packed when so many tokens of each layer have been computed."""
    for layer in delivery.overlap.layers:
        delivery.has_news(layer)
    return more(delivery, *computed)


def more(delivery: Delivery, *computed: int) -> list[Stretch]:
    found = []
    while one := delivery.next_stretch(dict(enumerate(computed))):
        found.append(one)
    return found


def test_nothing_goes_before_it_is_computed() -> None:
    delivery = deliver_to(make_demand(num_tokens=10))
    assert stretches(delivery, 0, 0, 0) == []
    assert stretches(delivery, 10, 0, 0) == [Stretch(0, 0, 3)]
    assert stretches(delivery, 10, 10, 10) == [Stretch(1, 0, 3), Stretch(2, 0, 3)]
    assert stretches(delivery, 10, 10, 10) == []


def test_what_is_computed_already_goes_at_once() -> None:
    delivery = deliver_to(make_demand(num_tokens=10))
    assert more(delivery, 10, 10, 10) == [Stretch(layer, 0, 3) for layer in range(3)]


def test_while_the_prompt_is_computed_only_whole_blocks_go() -> None:
    delivery = deliver_to(make_demand(num_tokens=10))
    assert stretches(delivery, 3, 3, 3) == []
    assert stretches(delivery, 7, 3, 3) == [Stretch(0, 0, 1)]
    assert stretches(delivery, 9, 3, 3) == [Stretch(0, 1, 1)]
    assert stretches(delivery, 10, 3, 3) == [Stretch(0, 2, 1)]


def test_blocks_are_those_of_the_receiver() -> None:
    target = replace(LAYOUT, block_size=6)
    delivery = deliver_to(make_demand(num_tokens=17, layout=target))
    assert stretches(delivery, 5, 6, 13) == [Stretch(1, 0, 1), Stretch(2, 0, 2)]
    assert stretches(delivery, 17, 17, 17) == [
        Stretch(0, 0, 3),
        Stretch(1, 1, 2),
        Stretch(2, 2, 1),
    ]


def test_nothing_beyond_the_demand_goes() -> None:
    delivery = deliver_to(make_demand(num_tokens=9))
    assert stretches(delivery, 40, 40, 40) == [Stretch(layer, 0, 3) for layer in range(3)]


def test_what_the_receiver_has_does_not_go() -> None:
    delivery = deliver_to(make_demand(first_token=8, num_tokens=7))
    assert stretches(delivery, 7, 12, 16) == [Stretch(1, 2, 1), Stretch(2, 2, 2)]


@pytest.mark.parametrize(
    ("demand", "max_payload_bytes"),
    [
        pytest.param(make_demand(num_tokens=18), 2 * BLOCK_BYTES, id="ours"),
        pytest.param(
            make_demand(num_tokens=18, max_payload_bytes=3 * BLOCK_BYTES - 1), 1 << 20, id="theirs"
        ),
    ],
)
def test_a_stretch_fits_into_both_sides_slots(demand: Demand, max_payload_bytes: int) -> None:
    delivery = deliver_to(demand, max_payload_bytes)
    assert stretches(delivery, 19, 0, 0) == [
        Stretch(0, 0, 2),
        Stretch(0, 2, 2),
        Stretch(0, 4, 1),
    ]


def test_layers_go_one_after_the_other() -> None:
    """What the receiver waits for longest is what was computed first."""
    delivery = deliver_to(make_demand(num_tokens=8), max_payload_bytes=BLOCK_BYTES)
    assert [each.layer for each in more(delivery, 8, 8, 8)] == [0, 0, 1, 1, 2, 2]


def test_it_is_complete_when_the_last_segment_has_left() -> None:
    delivery = deliver_to(make_demand(num_tokens=10))
    assert not delivery.is_complete
    delivery.num_in_flight = len(more(delivery, 10, 10, 10))
    assert not delivery.is_complete
    delivery.num_in_flight = 0
    assert delivery.is_complete


def test_a_demand_for_nothing_is_complete_at_once() -> None:
    delivery = deliver_to(make_demand(num_tokens=0))
    assert more(delivery, 10, 10, 10) == []
    assert delivery.is_complete


def test_a_rank_with_nothing_to_send_is_complete_at_once() -> None:
    stages = replace(LAYOUT, stage_layers=(1, 2))
    first = deliver(make_source(stages, rank=0), make_demand(layout=stages, rank=1))
    assert first.overlap.is_empty
    assert first.is_complete


def test_after_a_preemption_only_what_has_not_left_goes_again() -> None:
    delivery = deliver_to(make_demand(num_tokens=10))
    assert stretches(delivery, 4, 4, 4) == [Stretch(layer, 0, 1) for layer in range(3)]
    delivery.has_news(0)
    delivery.forget_news()
    assert more(delivery, 8, 8, 8) == []
    assert stretches(delivery, 4, 4, 4) == []
    assert stretches(delivery, 10, 10, 10) == [Stretch(layer, 1, 2) for layer in range(3)]


def test_news_of_other_layers_are_none() -> None:
    stages = replace(LAYOUT, stage_layers=(1, 2))
    delivery = deliver(make_source(stages, rank=1), make_demand(layout=stages, rank=1))
    delivery.has_news(0)
    assert {each.layer for each in more(delivery, 10, 10, 10)} == {1, 2}


def test_a_smaller_form_takes_more_blocks_in_a_slot() -> None:
    source = make_source(wire=WireFormat.FP8, max_payload_bytes=BLOCK_BYTES)
    delivery = deliver(source, make_demand(wire=WireFormat.FP8))
    assert delivery.wire is WireFormat.FP8
    assert delivery.block_bytes == 2 * (2 * 4 + 4 * 2)
    assert delivery.max_blocks == 2


NO_PLACE = (Part(0, ((4, 2), (2, 0))),)  # K of each token twice


@pytest.mark.parametrize(
    ("demand", "source", "reason"),
    [
        pytest.param(make_demand(rank=1), make_source(), "rank 1 of 1", id="no-such-rank"),
        pytest.param(make_demand(first_token=5), make_source(), "inside a block", id="border"),
        pytest.param(
            make_demand(layout=replace(LAYOUT, dtype="float16")),
            make_source(),
            r"type \(float32, float16\)",
            id="dtype",
        ),
        pytest.param(
            make_demand(max_payload_bytes=BLOCK_BYTES - 1),
            make_source(),
            "use larger slots",
            id="no-room-there",
        ),
        pytest.param(
            make_demand(layout=replace(LAYOUT, block_size=8)),
            make_source(max_payload_bytes=BLOCK_BYTES),
            "use larger slots",
            id="no-room-here",
        ),
        pytest.param(
            make_demand(layout=replace(LAYOUT, interior=NO_PLACE)),
            make_source(),
            "no place, or two",
            id="an-interior-that-is-none",
        ),
    ],
)
def test_a_demand_that_cannot_be_met_is_refused(
    demand: Demand, source: Source, reason: str
) -> None:
    with pytest.raises(DemandRefused, match=reason) as refused:
        deliver(source, demand)
    assert refused.value.cause is Cause.LAYOUT


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"block_size": 0}'])
def test_a_demand_without_a_layout_is_refused(text: str) -> None:
    with pytest.raises(DemandRefused, match="the receiver's layout"):
        deliver(make_source(), msgspec.structs.replace(make_demand(), layout=text))
