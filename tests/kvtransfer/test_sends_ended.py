from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvtransfer.causes import Cause
from kvtransfer.sends import SendLedger
from tests.kvtransfer.builders import (
    make_demand,
    make_load,
)
from tests.kvtransfer.send_steps import (
    LEASE,
    T1,
    T2,
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


@pytest.mark.parametrize("is_demanded", [True, False])
def test_a_revoked_ticket_sends_no_more_and_is_refused(
    ledger: SendLedger, is_demanded: bool
) -> None:
    prefill(ledger)
    if is_demanded:
        ledger.demand(make_demand(T1), now=0.0)
    assert ledger.revoke(T1, Cause.REVOKED, "prefill failed")
    assert reasons(ledger) == ["prefill failed"] * is_demanded
    assert parcels(ledger) == []
    ledger.demand(make_demand(T1), now=0.0)
    assert reasons(ledger) == ["the ticket has ended already (revoked)"]
    assert ledger.failures == {Cause.REVOKED: 1}


def test_a_cancel_frees_what_its_load_has_asked_for(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.request_ended(T1, "p1", is_prefilled=True)
    ledger.cancel(T1, make_load())
    assert ledger.take_freed() == ["p1"]
    assert ledger.failures == {Cause.CANCELLED: 1}


def test_a_cancel_frees_what_nobody_has_asked_for(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.cancel(T1, make_load(2))
    assert ledger.num_open == 0


@pytest.mark.parametrize("is_known", [True, False])
def test_a_cancel_of_another_load_harms_nothing(ledger: SendLedger, is_known: bool) -> None:
    if is_known:
        prefill(ledger, num_tokens=6)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.cancel(T1, make_load(2))
    assert causes(ledger) == []
    prefill(ledger)
    send_all(ledger)
    assert ledger.num_completed == 1


def test_a_cancel_before_its_demand_ends_the_ticket(ledger: SendLedger) -> None:
    ledger.cancel(T1, make_load())
    prefill(ledger)
    assert ledger.num_open == 0
    ledger.demand(make_demand(T1), now=0.0)
    assert causes(ledger) == [Cause.USED]


def test_a_lost_receiver_takes_only_its_own_tickets_with_it(ledger: SendLedger) -> None:
    prefill(ledger, T1, "p1")
    prefill(ledger, T2, "p2")
    prefill(ledger, T3, "p3")
    ledger.demand(make_demand(T1, reply_address=b"here"), now=0.0)
    ledger.demand(make_demand(T2, reply_address=b"there"), now=0.0)
    assert ledger.reply_addresses() == {b"here", b"there"}
    ledger.revoke_from(b"here", Cause.PEER_SILENT)
    assert ledger.failures == {Cause.PEER_SILENT: 1}
    assert ledger.take_refusals() == []
    assert ledger.reply_addresses() == {b"there"}
    assert ledger.num_open == 2


def test_the_other_ranks_of_a_lost_receiver_are_told(ledger: SendLedger) -> None:
    prefill(ledger)
    for rank in (0, 1):
        demand = make_demand(T1, layout=TWO_RANKS, rank=rank, reply_address=b"rank-%d" % rank)
        ledger.demand(demand, now=0.0)
    ledger.revoke_from(b"rank-0", Cause.LINK_LOST)
    assert [refusal.reply_address for refusal in ledger.take_refusals()] == [b"rank-1"]


def test_a_receiver_that_has_all_is_owed_nothing(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1, layout=TWO_RANKS, rank=0, reply_address=b"one"), now=0.0)
    assert ledger.reply_addresses() == {b"one"}
    send_all(ledger)
    assert (ledger.num_open, ledger.reply_addresses()) == (1, set())


def test_a_ticket_revoked_before_it_is_known_is_never_opened(ledger: SendLedger) -> None:
    assert not ledger.revoke(T1, Cause.CANCELLED)
    prefill(ledger)
    assert ledger.num_open == 0
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == ["p1"]


def test_a_send_that_nothing_happens_to_expires(ledger: SendLedger) -> None:
    prefill(ledger, now=100.0)
    assert ledger.next_deadline() == 100.0 + LEASE
    ledger.expire(now=100.0 + LEASE - 0.1)
    assert ledger.num_open == 1
    ledger.expire(now=100.0 + LEASE)
    assert ledger.num_open == 0
    assert ledger.next_deadline() is None
    ledger.demand(make_demand(T1), now=131.0)
    assert reasons(ledger) == ["the ticket has ended already (expired)"]


@pytest.mark.parametrize("event", ["computed", "demanded", "sent"])
def test_whatever_happens_to_a_send_renews_its_lease(ledger: SendLedger, event: str) -> None:
    prefill(ledger, num_tokens=4, now=0.0)
    ledger.demand(make_demand(T1), now=20.0 if event == "demanded" else 0.0)
    found = parcels(ledger)
    if event == "computed":
        prefill(ledger, num_tokens=10, now=20.0)
    if event == "sent":
        ledger.segment_done(found[0], is_sent=True, now=20.0)
    ledger.expire(now=LEASE + 10.0)
    assert ledger.num_open == 1


def test_a_parked_demand_expires_and_takes_its_ticket_with_it(ledger: SendLedger) -> None:
    ledger.demand(make_demand(T1), now=0.0)
    assert ledger.next_deadline() == LEASE
    ledger.expire(now=LEASE)
    assert causes(ledger) == [Cause.EXPIRED]
    prefill(ledger)
    assert ledger.num_open == 0


def test_an_ended_request_is_freed_when_its_kv_has_left(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.request_ended(T1, "p1", is_prefilled=True)
    assert ledger.take_freed() == []
    ledger.demand(make_demand(T1), now=0.0)
    found = parcels(ledger)
    for parcel in found[:-1]:
        ledger.segment_done(parcel, is_sent=True, now=0.0)
    assert ledger.take_freed() == []
    ledger.segment_done(found[-1], is_sent=True, now=0.0)
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
    assert causes(ledger) == [Cause.ABORTED]
    ledger.segment_done(first, is_sent=True, now=0.0)
    assert ledger.take_freed() == []


@pytest.mark.parametrize("end", [Cause.REVOKED, Cause.EXPIRED, Cause.LINK_LOST, Cause.BROKEN])
def test_an_ended_request_is_freed_once_however_its_send_ends(
    ledger: SendLedger, end: Cause
) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    found = parcels(ledger)
    ledger.request_ended(T1, "p1", is_prefilled=True)
    if end is Cause.REVOKED:
        ledger.revoke(T1, end)
    elif end is Cause.EXPIRED:
        ledger.expire(now=LEASE)
    elif end is Cause.BROKEN:
        ledger.close(end)
    for parcel in found:
        ledger.segment_done(parcel, is_sent=False, now=0.0)
    ledger.revoke(T1, Cause.CANCELLED)
    ledger.expire(now=10 * LEASE)
    assert ledger.take_freed() == ["p1"]
    assert causes(ledger) == [end]
    assert ledger.failures == {end: 1}


def test_closing_refuses_everyone(ledger: SendLedger) -> None:
    prefill(ledger)
    ledger.demand(make_demand(T1), now=0.0)
    ledger.demand(make_demand(T2), now=0.0)
    ledger.close(Cause.BROKEN)
    assert causes(ledger) == [Cause.BROKEN, Cause.BROKEN]
    assert repr(ledger) == "<SendLedger 0 open, 0 parked>"
