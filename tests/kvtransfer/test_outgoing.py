from __future__ import annotations

from kvtransfer.outgoing import Outgoing
from tests.kvtransfer.builders import LAYOUT, make_demand, make_ticket

ALL = 1000


def make_outgoing() -> Outgoing:
    return Outgoing(make_ticket(), "p1", LAYOUT, lease_seconds=30.0, deadline=30.0)


def compute(outgoing: Outgoing, num_tokens: int, layers: range | None = None) -> None:
    for layer in layers or range(LAYOUT.num_layers):
        outgoing.layer_computed(layer, num_tokens, now=1.0)


def ranges(outgoing: Outgoing, max_tokens: int = ALL) -> list[tuple[int, int, int]]:
    """Everything that can be packed now."""
    found = []
    while one := outgoing.next_range(max_tokens):
        found.append(one)
    return found


def test_nothing_goes_before_it_is_asked_for() -> None:
    outgoing = make_outgoing()
    compute(outgoing, 10)
    assert ranges(outgoing) == []
    outgoing.answer(make_demand(num_tokens=10))
    assert ranges(outgoing) == [(0, 0, 10), (1, 0, 10), (2, 0, 10)]


def test_nothing_goes_before_it_is_computed() -> None:
    outgoing = make_outgoing()
    outgoing.answer(make_demand(num_tokens=10))
    assert ranges(outgoing) == []
    compute(outgoing, 10, range(1))
    assert ranges(outgoing) == [(0, 0, 10)]
    compute(outgoing, 10, range(1, 3))
    assert ranges(outgoing) == [(1, 0, 10), (2, 0, 10)]


def test_while_the_prompt_is_computed_only_whole_blocks_go() -> None:
    outgoing = make_outgoing()
    outgoing.answer(make_demand(num_tokens=10))
    compute(outgoing, 3)
    assert ranges(outgoing) == []
    compute(outgoing, 7, range(1))
    assert ranges(outgoing) == [(0, 0, 4)]
    compute(outgoing, 9, range(1))
    assert ranges(outgoing) == [(0, 4, 4)]
    compute(outgoing, 10, range(1))
    assert ranges(outgoing) == [(0, 8, 2)]


def test_nothing_beyond_the_demand_goes() -> None:
    outgoing = make_outgoing()
    outgoing.answer(make_demand(num_tokens=9))
    compute(outgoing, 16, range(1))
    assert ranges(outgoing) == [(0, 0, 9)]


def test_what_the_receiver_has_does_not_go() -> None:
    outgoing = make_outgoing()
    compute(outgoing, 16)
    outgoing.answer(make_demand(first_token=8, num_tokens=7))
    assert ranges(outgoing) == [(0, 8, 7), (1, 8, 7), (2, 8, 7)]


def test_a_range_is_no_longer_than_a_segment() -> None:
    outgoing = make_outgoing()
    compute(outgoing, 19)
    outgoing.answer(make_demand(num_tokens=18))
    layer_0 = [found for found in ranges(outgoing, max_tokens=8) if found[0] == 0]
    assert layer_0 == [(0, 0, 8), (0, 8, 8), (0, 16, 2)]


def test_a_range_is_no_longer_than_the_receiver_has_room_for() -> None:
    outgoing = make_outgoing()
    compute(outgoing, 19, range(1))
    outgoing.answer(make_demand(num_tokens=18, max_segment_tokens=7))
    assert [num_tokens for _, _, num_tokens in ranges(outgoing)] == [4, 4, 4, 4, 2]


def test_it_is_complete_when_the_last_segment_has_left() -> None:
    outgoing = make_outgoing()
    assert not outgoing.is_complete
    compute(outgoing, 10)
    outgoing.answer(make_demand(num_tokens=10))
    assert not outgoing.is_complete
    outgoing.num_in_flight = len(ranges(outgoing))
    assert not outgoing.is_complete
    outgoing.num_in_flight = 0
    assert outgoing.is_complete


def test_a_demand_for_nothing_is_complete_at_once() -> None:
    outgoing = make_outgoing()
    outgoing.answer(make_demand(first_token=0, num_tokens=0))
    assert outgoing.is_complete


def test_after_a_preemption_only_what_has_not_left_goes_again() -> None:
    outgoing = make_outgoing()
    outgoing.answer(make_demand(num_tokens=10))
    compute(outgoing, 4)
    assert ranges(outgoing) == [(0, 0, 4), (1, 0, 4), (2, 0, 4)]
    compute(outgoing, 8)
    outgoing.forget_blocks()
    assert outgoing.block_ids == ()
    assert ranges(outgoing) == []
    compute(outgoing, 4)
    assert ranges(outgoing) == []
    compute(outgoing, 10)
    assert ranges(outgoing) == [(0, 4, 6), (1, 4, 6), (2, 4, 6)]


def test_news_that_is_none_changes_nothing() -> None:
    outgoing = make_outgoing()
    outgoing.answer(make_demand(num_tokens=10))
    compute(outgoing, 8)
    ranges(outgoing)
    outgoing.layer_computed(0, 8, now=2.0)
    outgoing.layer_computed(0, 5, now=3.0)
    assert outgoing.computed_at == 1.0
    assert ranges(outgoing) == []
