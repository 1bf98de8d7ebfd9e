from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvtransfer import parking, sends
from kvtransfer.causes import Cause
from kvtransfer.messages import MAX_REASON_CHARS, Demand
from kvtransfer.sends import SendLedger
from tests.kvtransfer.builders import (
    LAYOUT,
    make_demand,
    make_load,
    make_ticket,
    prompt_bytes,
)
from tests.kvtransfer.send_steps import (
    LEASE,
    T1,
    T3,
    TWO_RANKS,
    causes,
    new_ledger,
    parcels,
    prefill,
    reasons,
    send_all,
)


@pytest.fixture
def ledger() -> Iterator[SendLedger]:
    ledger = new_ledger()
    yield ledger
    ledger.check_integrity()


def test_a_used_ticket_is_refused(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    send_all(ledger)
    ledger.demand(make_demand(T1, reply_address=b"thief", load=make_load(2)), now=0.0)
    (refusal,) = ledger.take_refusals()
    assert refusal.reply_address == b"thief"
    assert (refusal.message.cause, refusal.message.load) == (Cause.USED, make_load(2))
    assert "ended already (used)" in refusal.message.reason
    assert (ledger.refused, ledger.num_failed) == ({Cause.USED: 1}, 0)


@pytest.mark.parametrize("moment", ["parked", "known", "packed", "sent"])
def test_a_demand_that_is_replayed_has_no_effect(ledger: SendLedger, moment: str) -> None:
    """Nor is its load refused: the answer to the first is on its way."""
    ledger.demand(make_demand(T1), now=0.0)
    found = []
    if moment != "parked":
        prefill(ledger, num_tokens=6 if moment == "known" else 10)
    if moment in ("packed", "sent"):
        found = parcels(ledger)
    if moment == "sent":
        for parcel in found:
            ledger.segment_done(parcel, is_sent=True, now=0.0)
    ledger.demand(make_demand(T1), now=0.0)
    prefill(ledger)
    for parcel in found:
        ledger.segment_done(parcel, is_sent=True, now=0.0)
    send_all(ledger)
    assert ledger.take_refusals() == []
    assert (ledger.num_completed, ledger.refused) == (1, {Cause.REPEATED: 1})
    assert ledger.sent_bytes == prompt_bytes(10)


def test_a_rank_that_asks_after_the_ticket_has_failed_is_told(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1, layout=TWO_RANKS, rank=0), now=0.0)
    ledger.revoke(T1, Cause.REVOKED)
    ledger.demand(make_demand(T1, layout=TWO_RANKS, rank=1), now=0.0)
    assert causes(ledger) == [Cause.REVOKED, Cause.USED]


@pytest.mark.parametrize(
    ("demand", "cause"),
    [
        pytest.param(make_demand(T1, reply_address=b"thief"), Cause.USED, id="to-elsewhere"),
        pytest.param(make_demand(T1, load=make_load(2)), Cause.FOREIGN, id="another-load"),
        pytest.param(
            make_demand(T1, load=make_load(2), reply_address=b"thief"),
            Cause.FOREIGN,
            id="another-load-elsewhere",
        ),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_another_demand_for_the_ticket_gets_nothing_and_harms_nothing(
    ledger: SendLedger, demand: Demand, cause: Cause, is_known: bool
) -> None:
    """A parked ticket tells only ranks apart, until its request comes."""
    if is_known:
        prefill(ledger, num_tokens=6)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(demand, now=0.0)
    assert causes(ledger) == [cause if is_known else Cause.USED]
    prefill(ledger)
    assert {parcel.reply_address for parcel in send_all(ledger)} == {b"decode"}
    assert (ledger.num_completed, ledger.sent_bytes) == (1, prompt_bytes(10))


def test_a_ticket_in_use_is_refused_to_a_second_receiver(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(make_demand(T1, load=make_load(2), reply_address=b"thief"), now=0.0)
    assert causes(ledger) == [Cause.FOREIGN]
    assert {parcel.reply_address for parcel in send_all(ledger)} == {b"decode"}


def test_a_ticket_that_is_waited_for_is_refused_to_a_second_receiver(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(make_demand(T1, load=make_load(2), reply_address=b"thief"), now=0.0)
    assert causes(ledger) == [Cause.USED]
    prefill(ledger)
    assert {parcel.reply_address for parcel in send_all(ledger)} == {b"decode"}


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        pytest.param(make_demand(T1, layout=replace(LAYOUT, dtype="int8")), "type", id="layout"),
        pytest.param(make_demand(T1, first_token=5), "inside a block", id="border"),
        pytest.param(make_demand(T1, max_payload_bytes=63), "larger slots", id="no-room"),
        pytest.param(make_demand(T1, rank=1), "rank 1 of 1", id="rank"),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_what_cannot_be_converted_is_refused_and_the_ticket_ended(
    ledger: SendLedger, demand: Demand, reason: str, is_known: bool
) -> None:
    """Nobody else will come for it: the engine has its blocks back at once."""
    if is_known:
        prefill(ledger)
    ledger.demand(demand, now=0.0)
    prefill(ledger)
    assert ledger.num_open == 0
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == ["p1"]
    refusals = [refusal.message for refusal in ledger.take_refusals()]
    assert {refusal.cause for refusal in refusals} == {Cause.LAYOUT}
    assert reason in refusals[0].reason
    assert ledger.failures == {Cause.LAYOUT: 1}


def test_a_layout_that_cannot_be_converted_is_refused_with_both(ledger: SendLedger) -> None:
    prefill(ledger)
    other = replace(LAYOUT, content_size=4)
    ledger.demand(make_demand(T1, layout=other), now=0.0)
    (reason,) = reasons(ledger)
    assert LAYOUT.summary in reason
    assert other.summary in reason


def test_a_parked_demand_is_refused_when_its_ticket_is_revoked(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    assert ledger.revoke(T1, Cause.ABORTED)
    assert causes(ledger) == [Cause.ABORTED]


def test_a_reason_is_cut_to_what_a_message_may_carry(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    ledger.revoke(T1, Cause.REVOKED, "r" * 5000)
    assert reasons(ledger) == ["r" * MAX_REASON_CHARS]


def test_parked_demands_are_bounded(ledger: SendLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "MAX_PARKED", 2)
    for number in (1, 2, 3):
        ledger.demand(make_demand(make_ticket(number)), now=0.0)
    (refusal,) = ledger.take_refusals()
    assert (refusal.message.ticket, refusal.message.cause) == (T3, Cause.CROWDED)
    assert repr(ledger) == "<SendLedger 0 open, 2 parked>"


def test_spent_tickets_are_remembered_up_to_a_bound(
    ledger: SendLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sends, "MAX_SPENT", 2)
    for number in (1, 2, 3):
        ledger.revoke(make_ticket(number), Cause.CANCELLED)
    for number in (1, 2, 3):
        ledger.open(make_ticket(number), f"p{number}", LEASE, 0.0)
    assert ledger.num_open == 1
