from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvtransfer import sends
from kvtransfer.messages import MAX_REASON_CHARS
from kvtransfer.sends import Parcel, SendLedger
from tests.kvtransfer.builders import LAYOUT, make_demand, make_ticket

LEASE = 30.0
MAX_TOKENS = 8
T1, T2, T3 = make_ticket(1), make_ticket(2), make_ticket(3)


@pytest.fixture
def ledger() -> Iterator[SendLedger]:
    ledger = SendLedger(LAYOUT, MAX_TOKENS, LEASE)
    yield ledger
    ledger.check_integrity()


def prefill(
    ledger: SendLedger,
    ticket: bytes = T1,
    request_id: str = "p1",
    num_tokens: int = 10,
    now: float = 0.0,
    first_block: int = 0,
) -> None:
    """Opens the send, if it is not open, and computes the first `num_tokens` tokens."""
    ledger.open(ticket, request_id, LEASE, now)
    blocks = range(first_block, first_block + LAYOUT.num_blocks(num_tokens))
    ledger.place(request_id, tuple(blocks))
    for layer in range(LAYOUT.num_layers):
        ledger.layer_computed(request_id, layer, num_tokens, now)


def parcels(ledger: SendLedger) -> list[Parcel]:
    """Everything that can be packed now."""
    found = []
    while one := ledger.next_parcel():
        found.append(one)
        ledger.check_integrity()
    return found


def send_all(ledger: SendLedger, now: float = 0.0) -> list[Parcel]:
    found = parcels(ledger)
    for parcel in found:
        ledger.segment_done(parcel.segment, is_sent=True, now=now)
    return found


def reasons(ledger: SendLedger) -> list[str]:
    return [refusal.message.reason for refusal in ledger.take_refusals()]


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
    assert sum(parcel.segment.num_tokens for parcel in sent) == 10 * LAYOUT.num_layers
    assert ledger.num_open == 0
    assert ledger.num_completed == 1
    assert ledger.sent_bytes == LAYOUT.num_layers * LAYOUT.layer_bytes(10)


def test_a_demand_in_the_middle_of_the_prompt_gets_all_of_it(ledger: SendLedger) -> None:
    prefill(ledger, num_tokens=6)
    ledger.demand(make_demand(T1), now=0.0)
    early = send_all(ledger)
    assert {parcel.segment.end_token for parcel in early} == {4}
    prefill(ledger, num_tokens=10)
    late = send_all(ledger)
    assert {parcel.segment.first_token for parcel in late} == {4}
    assert ledger.num_completed == 1


def test_a_parcel_names_the_blocks_of_its_tokens(ledger: SendLedger) -> None:
    prefill(ledger, num_tokens=19, first_block=50)
    ledger.demand(make_demand(T1, first_token=4, num_tokens=14, reply_address=b"here"), now=0.0)
    first_layer = [parcel for parcel in parcels(ledger) if parcel.segment.layer == 0]
    assert [parcel.block_ids for parcel in first_layer] == [(51, 52), (53, 54)]
    assert [parcel.segment.num_tokens for parcel in first_layer] == [8, 6]
    assert [parcel.segment.payload_bytes for parcel in first_layer] == [
        2 * LAYOUT.block_bytes,
        2 * LAYOUT.block_bytes,
    ]
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


def test_a_used_ticket_is_refused(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    send_all(ledger)
    ledger.demand(make_demand(T1, reply_address=b"thief"), now=0.0)
    (refusal,) = ledger.take_refusals()
    assert refusal.reply_address == b"thief"
    assert refusal.message.reason == "ticket already used"


def test_a_ticket_in_use_is_refused_to_a_second_receiver(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(make_demand(T1, reply_address=b"thief"), now=0.0)
    assert reasons(ledger) == ["ticket already answered"]
    assert {parcel.reply_address for parcel in send_all(ledger)} == {b"decode"}


def test_a_ticket_that_is_waited_for_is_refused_to_a_second_receiver(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(make_demand(T1, reply_address=b"thief"), now=0.0)
    assert reasons(ledger) == ["ticket already asked for"]
    prefill(ledger)
    assert {parcel.reply_address for parcel in send_all(ledger)} == {b"decode"}


def test_another_layout_is_refused_with_ours(ledger: SendLedger) -> None:
    other = make_demand(T1, layout=type(LAYOUT)(8, 3, 2, 8, "float32"))
    ledger.demand(other, now=0.0)
    (reason,) = reasons(ledger)
    assert LAYOUT.summary in reason


def test_a_demand_from_inside_a_block_is_refused(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1, first_token=5), now=0.0)
    assert reasons(ledger) == ["first token 5 is inside a block"]


def test_a_receiver_without_room_for_a_block_is_refused(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1, max_segment_tokens=3), now=0.0)
    assert reasons(ledger) == ["no room for a block of 4 tokens"]


def test_a_demand_for_nothing_uses_the_ticket(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1, num_tokens=0), now=0.0)
    assert parcels(ledger) == []
    assert (ledger.num_open, ledger.num_completed, ledger.exposed_seconds) == (0, 1, 0.0)
    ledger.demand(make_demand(T1), now=0.0)
    assert reasons(ledger) == ["ticket already used"]


@pytest.mark.parametrize("is_demanded", [True, False])
def test_a_revoked_ticket_sends_no_more_and_is_refused(
    ledger: SendLedger, is_demanded: bool
) -> None:
    prefill(ledger)
    if is_demanded:
        ledger.demand(make_demand(T1), now=0.0)
    assert ledger.revoke(T1, "prefill failed")
    assert reasons(ledger) == ["prefill failed"] * is_demanded
    assert parcels(ledger) == []
    ledger.demand(make_demand(T1), now=0.0)
    assert reasons(ledger) == ["ticket already prefill failed"]
    assert ledger.num_failed == 1


def test_a_ticket_revoked_before_it_is_known_is_never_opened(ledger: SendLedger) -> None:
    assert not ledger.revoke(T1, "cancelled")
    prefill(ledger)
    assert ledger.num_open == 0
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == ["p1"]


def test_a_parked_demand_is_refused_when_its_ticket_is_revoked(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    assert ledger.revoke(T1, "aborted")
    assert reasons(ledger) == ["aborted"]


def test_a_reason_is_cut_to_what_a_message_may_carry(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    ledger.revoke(T1, "r" * 5000)
    assert reasons(ledger) == ["r" * MAX_REASON_CHARS]


def test_a_send_that_nothing_happens_to_expires(ledger: SendLedger) -> None:
    prefill(ledger, now=100.0)
    assert ledger.next_deadline() == 100.0 + LEASE
    ledger.expire(now=100.0 + LEASE - 0.1)
    assert ledger.num_open == 1
    ledger.expire(now=100.0 + LEASE)
    assert ledger.num_open == 0
    assert ledger.next_deadline() is None
    ledger.demand(make_demand(T1), now=131.0)
    assert reasons(ledger) == ["ticket already expired"]


@pytest.mark.parametrize("event", ["computed", "demanded", "sent"])
def test_whatever_happens_to_a_send_renews_its_lease(ledger: SendLedger, event: str) -> None:
    prefill(ledger, num_tokens=4, now=0.0)
    ledger.demand(make_demand(T1), now=20.0 if event == "demanded" else 0.0)
    found = parcels(ledger)
    if event == "computed":
        prefill(ledger, num_tokens=10, now=20.0)
    if event == "sent":
        ledger.segment_done(found[0].segment, is_sent=True, now=20.0)
    ledger.expire(now=LEASE + 10.0)
    assert ledger.num_open == 1


def test_a_parked_demand_expires_and_takes_its_ticket_with_it(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    assert ledger.next_deadline() == LEASE
    ledger.expire(now=LEASE)
    assert reasons(ledger) == ["expired"]
    prefill(ledger)
    assert ledger.num_open == 0


def test_parked_demands_are_bounded(ledger: SendLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sends, "MAX_PARKED", 2)
    for number in (1, 2, 3):
        ledger.demand(make_demand(make_ticket(number)), now=0.0)
    (refusal,) = ledger.take_refusals()
    assert refusal.message.ticket == T3
    assert repr(ledger) == "<SendLedger 0 open, 2 parked>"


def test_spent_tickets_are_remembered_up_to_a_bound(
    ledger: SendLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sends, "MAX_SPENT", 2)
    for number in (1, 2, 3):
        ledger.revoke(make_ticket(number), "cancelled")
    for number in (1, 2, 3):
        ledger.open(make_ticket(number), f"p{number}", LEASE, 0.0)
    assert ledger.num_open == 1


def test_an_ended_request_is_freed_when_its_kv_has_left(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == []
    ledger.demand(make_demand(T1), now=0.0)
    found = parcels(ledger)
    for parcel in found[:-1]:
        ledger.segment_done(parcel.segment, is_sent=True, now=0.0)
    assert ledger.take_freed() == []
    ledger.segment_done(found[-1].segment, is_sent=True, now=0.0)
    assert ledger.take_freed() == ["p1"]
    assert ledger.take_freed() == []


def test_a_request_whose_kv_has_left_is_freed_when_it_ends(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    send_all(ledger)
    assert ledger.take_freed() == []
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == ["p1"]


def test_an_aborted_request_is_freed_at_once_and_its_receiver_told(ledger: SendLedger) -> None:
    prefill(ledger, num_tokens=8)
    ledger.demand(make_demand(T1), now=0.0)
    (first, *_) = parcels(ledger)
    ledger.request_ended(T1, "p1", is_prefilled=False)
    assert ledger.take_freed() == ["p1"]
    assert reasons(ledger) == ["aborted"]
    ledger.segment_done(first.segment, is_sent=True, now=0.0)
    assert ledger.take_freed() == []


@pytest.mark.parametrize("end", ["revoked", "expired", "connection lost", "closed"])
def test_an_ended_request_is_freed_once_however_its_send_ends(ledger: SendLedger, end: str) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    found = parcels(ledger)
    ledger.request_ended(T1, "p1", is_prefilled=True)
    if end == "revoked":
        ledger.revoke(T1, end)
    elif end == "expired":
        ledger.expire(now=LEASE)
    elif end == "closed":
        ledger.close(end)
    for parcel in found:
        ledger.segment_done(parcel.segment, is_sent=False, now=0.0)
    ledger.revoke(T1, "again")
    ledger.expire(now=10 * LEASE)
    assert ledger.take_freed() == ["p1"]
    assert reasons(ledger) == [end]


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
    assert {parcel.block_ids for parcel in sent} == {(72, 73)}
    assert ledger.num_completed == 1


def test_a_second_request_with_the_same_ticket_sends_nothing_and_is_freed(
    ledger: SendLedger,
) -> None:
    prefill(ledger, T1, "p1", first_block=0)
    prefill(ledger, T1, "p2", first_block=50)
    ledger.request_ended(T1, "p2", is_prefilled=False)
    assert ledger.take_freed() == ["p2"]
    ledger.demand(make_demand(T1), now=0.0)
    assert {parcel.block_ids for parcel in send_all(ledger)} == {(0, 1), (2,)}
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == ["p1"]


def test_exposed_time_runs_from_the_last_computation_to_the_last_byte(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    prefill(ledger, num_tokens=4, now=1.0)
    send_all(ledger, now=1.5)
    prefill(ledger, num_tokens=10, now=2.0)
    send_all(ledger, now=2.25)
    assert ledger.exposed_seconds == pytest.approx(0.25)


def test_closing_refuses_everyone(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(make_demand(T2), now=0.0)
    ledger.close("shutting down")
    assert reasons(ledger) == ["shutting down", "shutting down"]
    assert repr(ledger) == "<SendLedger 0 open, 0 parked>"
