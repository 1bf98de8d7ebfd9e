from __future__ import annotations

from dataclasses import replace

import pytest

from kvtransfer.causes import Cause
from kvtransfer.delivery import Stretch, deliver
from kvtransfer.errors import DemandRefused
from kvtransfer.messages import Demand
from kvtransfer.outgoing import Outgoing
from proto.layout import KvLayout
from tests.kvtransfer.builders import LAYOUT, make_demand, make_load, make_source, make_ticket

TWO_RANKS = replace(LAYOUT, tensor_parallel_size=2)


def make_outgoing(layout: KvLayout = LAYOUT, rank: int = 0) -> Outgoing:
    return Outgoing(make_ticket(), "p1", layout.shard(rank), lease_seconds=30.0, deadline=30.0)


def answer(outgoing: Outgoing, demand: Demand) -> None:
    outgoing.answer(deliver(make_source(), demand))


def compute(outgoing: Outgoing, num_tokens: int, layers: range = range(3)) -> None:
    for layer in layers:
        outgoing.layer_computed(layer, num_tokens, now=1.0)


def stretches(outgoing: Outgoing, rank: int = 0) -> list[Stretch]:
    """Everything that can be packed for this rank now."""
    found = []
    while one := outgoing.deliveries[rank].next_stretch(outgoing.computed):
        found.append(one)
    return found


def test_what_is_asked_for_late_goes_at_once() -> None:
    outgoing = make_outgoing()
    compute(outgoing, 10)
    answer(outgoing, make_demand(num_tokens=10))
    assert stretches(outgoing) == [Stretch(layer, 0, 3) for layer in range(3)]


def test_what_is_computed_late_goes_then() -> None:
    outgoing = make_outgoing()
    answer(outgoing, make_demand(num_tokens=10))
    assert stretches(outgoing) == []
    compute(outgoing, 10, range(1))
    assert stretches(outgoing) == [Stretch(0, 0, 3)]
    compute(outgoing, 10, range(1, 3))
    assert stretches(outgoing) == [Stretch(1, 0, 3), Stretch(2, 0, 3)]


def test_every_rank_of_the_receiver_gets_its_own() -> None:
    outgoing = make_outgoing()
    answer(outgoing, make_demand(layout=TWO_RANKS, rank=1))
    compute(outgoing, 8, range(2))
    answer(outgoing, make_demand(layout=TWO_RANKS, rank=0, first_token=4, num_tokens=6))
    assert stretches(outgoing, 1) == [Stretch(0, 0, 2), Stretch(1, 0, 2)]
    assert stretches(outgoing, 0) == [Stretch(0, 1, 1), Stretch(1, 1, 1)]
    compute(outgoing, 10)
    assert stretches(outgoing, 0)[-1] == Stretch(2, 1, 2)
    assert stretches(outgoing, 1)[-1] == Stretch(2, 0, 3)


def test_it_is_complete_when_every_rank_has_all() -> None:
    outgoing = make_outgoing()
    compute(outgoing, 10)
    assert not outgoing.is_complete
    answer(outgoing, make_demand(layout=TWO_RANKS, rank=0))
    stretches(outgoing, 0)
    assert not outgoing.is_complete
    answer(outgoing, make_demand(layout=TWO_RANKS, rank=1))
    assert not outgoing.is_complete
    stretches(outgoing, 1)
    assert outgoing.is_complete


@pytest.mark.parametrize(
    ("demand", "cause"),
    [
        pytest.param(make_demand(), Cause.USED, id="the-same-rank"),
        pytest.param(make_demand(reply_address=b"thief"), Cause.USED, id="from-elsewhere"),
        pytest.param(make_demand(load=make_load(2)), Cause.FOREIGN, id="another-load"),
        pytest.param(
            make_demand(load=make_load(2), layout=TWO_RANKS, rank=1),
            Cause.FOREIGN,
            id="another-load's-rank",
        ),
    ],
)
def test_a_second_demand_is_refused(demand: Demand, cause: Cause) -> None:
    outgoing = make_outgoing()
    answer(outgoing, make_demand())
    first = outgoing.deliveries[0]
    with pytest.raises(DemandRefused) as refused:
        answer(outgoing, demand)
    assert refused.value.cause is cause
    assert outgoing.deliveries == {0: first}


def test_a_demand_is_known_again() -> None:
    outgoing = make_outgoing()
    assert not outgoing.has_answered(make_demand())
    answer(outgoing, make_demand())
    assert outgoing.has_answered(make_demand())
    assert not outgoing.has_answered(make_demand(reply_address=b"elsewhere"))
    assert not outgoing.has_answered(make_demand(rank=1))


def test_after_a_preemption_only_what_has_not_left_goes_again() -> None:
    outgoing = make_outgoing()
    answer(outgoing, make_demand(num_tokens=10))
    outgoing.block_ids = tuple(range(5, 7))
    compute(outgoing, 4)
    assert len(stretches(outgoing)) == 3
    compute(outgoing, 8)
    outgoing.forget_blocks()
    assert outgoing.block_ids == ()
    assert stretches(outgoing) == []
    compute(outgoing, 4)
    assert stretches(outgoing) == []
    compute(outgoing, 10)
    assert stretches(outgoing) == [Stretch(layer, 1, 2) for layer in range(3)]


def test_a_rank_knows_its_own_layers_only() -> None:
    outgoing = make_outgoing(replace(LAYOUT, stage_layers=(1, 2)), rank=1)
    assert outgoing.computed == {1: 0, 2: 0}


def test_news_that_is_none_changes_nothing() -> None:
    outgoing = make_outgoing()
    answer(outgoing, make_demand(num_tokens=10))
    compute(outgoing, 8)
    stretches(outgoing)
    outgoing.layer_computed(0, 8, now=2.0)
    outgoing.layer_computed(0, 5, now=3.0)
    assert outgoing.computed_at == 1.0
    assert stretches(outgoing) == []


def test_it_goes_to_the_addresses_that_have_asked() -> None:
    outgoing = make_outgoing()
    assert not outgoing.goes_to(b"one")
    answer(outgoing, make_demand(layout=TWO_RANKS, rank=0, reply_address=b"one"))
    answer(outgoing, make_demand(layout=TWO_RANKS, rank=1, reply_address=b"two"))
    assert outgoing.goes_to(b"one")
    assert outgoing.goes_to(b"two")
    assert not outgoing.goes_to(b"three")
