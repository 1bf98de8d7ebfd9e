from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvtransfer.causes import Cause
from kvtransfer.sends import SendLedger
from tests.kvtransfer.builders import (
    LAYOUT,
    make_demand,
    make_load,
    make_ticket,
    prompt_bytes,
)
from tests.kvtransfer.send_steps import (
    T1,
    T2,
    T3,
    TWO_BLOCKS,
    TWO_RANKS,
    causes,
    new_ledger,
    parcels,
    prefill,
    send_all,
)


@pytest.fixture
def ledger() -> Iterator[SendLedger]:
    ledger = new_ledger()
    yield ledger
    ledger.check_integrity()


@pytest.mark.parametrize("is_demand_first", [True, False])
def test_demand_and_request_come_in_any_order(ledger: SendLedger, is_demand_first: bool) -> None:
    if is_demand_first:
        ledger.demand(make_demand(T1), now=0.0)
        assert parcels(ledger) == []
    prefill(ledger)
    if not is_demand_first:
        assert parcels(ledger) == []
        ledger.demand(make_demand(T1), now=0.0)
    sent = send_all(ledger)
    assert sum(parcel.segment.num_blocks for parcel in sent) == 3 * LAYOUT.num_layers
    assert ledger.num_open == 0
    assert ledger.num_completed == 1
    assert ledger.sent_bytes == prompt_bytes(10)
    assert ledger.sent_segments == len(sent)


def test_a_demand_in_the_middle_of_the_prompt_gets_all_of_it(ledger: SendLedger) -> None:
    prefill(ledger, num_tokens=6)
    ledger.demand(make_demand(T1), now=0.0)
    early = send_all(ledger)
    assert {parcel.segment.end_block for parcel in early} == {1}
    prefill(ledger, num_tokens=10)
    late = send_all(ledger)
    assert {parcel.segment.first_block for parcel in late} == {1}
    assert ledger.num_completed == 1


def test_a_parcel_names_the_blocks_of_its_tokens(ledger: SendLedger) -> None:
    prefill(ledger, num_tokens=19, first_block=50)
    ledger.demand(make_demand(T1, first_token=4, num_tokens=14, reply_address=b"here"), now=0.0)
    first_layer = [parcel for parcel in parcels(ledger) if parcel.segment.layer == 0]
    assert [parcel.cut.block_ids for parcel in first_layer] == [[51, 52], [53, 54]]
    assert [parcel.cut.num_tokens for parcel in first_layer] == [8, 6]
    assert [parcel.segment.payload_bytes for parcel in first_layer] == [TWO_BLOCKS] * 2
    assert {parcel.reply_address for parcel in first_layer} == {b"here"}


def test_tickets_take_turns(ledger: SendLedger) -> None:
    for number in (1, 2, 3):
        prefill(ledger, make_ticket(number), f"p{number}", num_tokens=8)
        ledger.demand(make_demand(make_ticket(number), num_tokens=8), now=0.0)
    order = [parcel.segment.ticket for parcel in parcels(ledger)]
    assert order == [T1, T2, T3] * LAYOUT.num_layers


def test_a_ticket_with_news_waits_for_its_turn(ledger: SendLedger) -> None:
    prefill(ledger, T1, "p1", num_tokens=40)
    ledger.demand(make_demand(T1, num_tokens=40), now=0.0)
    first = ledger.next_parcel()
    prefill(ledger, T2, "p2", num_tokens=8)
    ledger.demand(make_demand(T2, num_tokens=8), now=0.0)
    second, third = ledger.next_parcel(), ledger.next_parcel()
    tickets = [parcel.segment.ticket for parcel in (first, second, third) if parcel]
    assert tickets == [T1, T1, T2]


def test_every_rank_of_the_receiver_is_served(ledger: SendLedger) -> None:
    for rank in (1, 0):
        demand = make_demand(T1, layout=TWO_RANKS, rank=rank, reply_address=b"rank-%d" % rank)
        ledger.demand(demand, now=0.0)
    prefill(ledger)
    sent = send_all(ledger)
    heads = {(each.rank, each.reply_address, each.segment.heads) for each in sent}
    assert heads == {(0, b"rank-0", range(1)), (1, b"rank-1", range(1, 2))}
    assert (ledger.num_completed, ledger.sent_bytes) == (1, prompt_bytes(10))


def test_a_ticket_is_not_used_before_every_rank_has_asked(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1, layout=TWO_RANKS, rank=0), now=0.0)
    send_all(ledger)
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert (ledger.num_open, ledger.take_freed()) == (1, [])
    ledger.demand(make_demand(T1, layout=TWO_RANKS, rank=1), now=0.0)
    send_all(ledger)
    assert (ledger.num_open, ledger.take_freed()) == (0, ["p1"])


def test_a_demand_for_nothing_uses_the_ticket(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1, num_tokens=0), now=0.0)
    assert parcels(ledger) == []
    assert (ledger.num_open, ledger.num_completed, ledger.exposed_seconds) == (0, 1, 0.0)
    ledger.demand(make_demand(T1, load=make_load(2)), now=0.0)
    assert causes(ledger) == [Cause.USED]


def test_held_bytes_are_those_of_open_tickets(ledger: SendLedger) -> None:
    prefill(ledger, T1, "p1", num_tokens=10)
    prefill(ledger, T2, "p2", num_tokens=4)
    assert ledger.held_bytes == prompt_bytes(10) + prompt_bytes(4)
    ledger.forget_blocks(["p1"])
    assert ledger.held_bytes == prompt_bytes(4)
    ledger.revoke(T2, Cause.REVOKED)
    assert ledger.held_bytes == 0


def test_a_preempted_prompt_is_sent_from_its_later_blocks(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1, num_tokens=16), now=0.0)
    prefill(ledger, num_tokens=8, first_block=0)
    send_all(ledger)
    prefill(ledger, num_tokens=16, first_block=0)
    ledger.forget_blocks(["p1", "another"])
    assert parcels(ledger) == []
    prefill(ledger, num_tokens=8, first_block=70)
    assert parcels(ledger) == []
    prefill(ledger, num_tokens=16, first_block=70)
    sent = send_all(ledger)
    assert [parcel.cut.block_ids for parcel in sent] == [[72, 73]] * LAYOUT.num_layers
    assert ledger.num_completed == 1


def test_a_second_request_with_the_same_ticket_sends_nothing_and_is_freed(
    ledger: SendLedger,
) -> None:
    prefill(ledger, T1, "p1", first_block=0)
    prefill(ledger, T1, "p2", first_block=50)
    ledger.request_ended(T1, "p2", is_prefilled=False)
    assert ledger.take_freed() == ["p2"]
    ledger.demand(make_demand(T1), now=0.0)
    cuts = [parcel.cut.block_ids for parcel in send_all(ledger)]
    assert cuts == [[0, 1], [2]] * LAYOUT.num_layers
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == ["p1"]


def test_exposed_time_runs_from_the_last_computation_to_the_last_byte(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    prefill(ledger, num_tokens=4, now=1.0)
    send_all(ledger, now=1.5)
    prefill(ledger, num_tokens=10, now=2.0)
    send_all(ledger, now=2.25)
    assert ledger.exposed_seconds == pytest.approx(0.25)
