from __future__ import annotations

import random

import pytest

from gateway.actions import Abort, Action, Fail, Leg, Reserve, Revoke, Submit
from gateway.errors import (
    NoDecodeWorker,
    ShuttingDown,
    TimedOut,
    WorkerFailed,
    WorkerFull,
    WorkerLost,
)
from gateway.request_book import RequestBook
from gateway.request_life import Dispatch, Handoff, Outcome, RequestLife, Stage
from tests.gateway.builders import TIMEOUTS, Fleet, make_book, make_request, make_worker
from tests.proto.builders import FLOAT_LAYOUT, KEY


def submits(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.worker, action.leg_id) for action in actions if isinstance(action, Submit)]


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def assert_empty(book: RequestBook) -> None:
    book.check_integrity()
    assert not book.lives
    assert repr(book) == "<RequestBook 0 open, <WorkerLedger no open legs>>"


def test_a_request_goes_to_a_pair_under_one_ticket() -> None:
    book, _ = make_book()
    decode, prefill = book.add(make_request(), 0.0)
    assert isinstance(decode, Submit)
    assert isinstance(prefill, Submit)
    assert (decode.leg, prefill.leg) == (Leg.DECODE, Leg.PREFILL)
    assert decode.ticket == prefill.ticket
    assert decode.ticket
    assert decode.ticket.source_worker == "p1"
    assert decode.ticket.is_signed_by(KEY)
    assert decode.ticket.source_addresses == (b"address of p1",)
    assert decode.ticket.lease_seconds > TIMEOUTS.prefill
    assert book.ledger.booked("p1").prefill_tokens == 100
    assert book.ledger.booked("d1").prefill_tokens == 0
    assert book.ledger.booked("d1").kv_tokens > 100
    book.check_integrity()


def test_requests_spread_over_the_workers() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1 p2"))
    assert submits(book.add(make_request("a"), 0.0)) == [("d1", "a"), ("p1", "prefill:a")]
    assert submits(book.add(make_request("b"), 0.0)) == [("d2", "b"), ("p2", "prefill:b")]
    book.check_integrity()


def test_the_whole_way() -> None:
    book, _ = make_book()
    ended: list[RequestLife] = []
    book.on_end = ended.append
    book.add(make_request(), 0.0)
    assert book.prefill_ended("prefill:r", 1.0) == []
    assert book.ledger.workers == ("d1",)
    book.first_token(book.lives["r"], 2.0)
    assert book.finished(book.lives["r"], 3.0) == []
    assert [(life.outcome, life.handoff) for life in ended] == [(Outcome.FINISHED, Handoff.MOVED)]
    assert_empty(book)


def test_without_a_decode_worker_it_fails_at_once() -> None:
    book, _ = make_book(Fleet("", "p1"))
    (fail,) = book.add(make_request(), 0.0)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, NoDecodeWorker)
    assert_empty(book)


def test_without_a_prefill_worker_decode_does_it() -> None:
    book, _ = make_book(Fleet("d1", ""))
    (submit,) = book.add(make_request(), 0.0)
    assert isinstance(submit, Submit)
    assert submit.ticket is None


def test_an_id_in_use_is_refused_and_the_first_goes_on() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    assert kinds(book.add(make_request(), 0.0)) == [Fail]
    assert list(book.lives) == ["r"]
    book.check_integrity()


def test_a_lost_prefill_worker_revokes_its_tickets_only() -> None:
    book, fleet = make_book(Fleet("d1 d2", "p1 p2"))
    book.add(make_request("a"), 0.0)
    book.add(make_request("b"), 0.0)
    fleet.lose("p1")
    (revoke,) = book.worker_lost("p1", 1.0)
    assert isinstance(revoke, Revoke)
    assert revoke.worker == "d1"
    assert book.lives["a"].handoff is Handoff.REVOKED
    assert book.lives["b"].handoff is None
    book.check_integrity()


def test_a_lost_decode_worker_fails_its_requests_only() -> None:
    book, fleet = make_book(Fleet("d1 d2", "p1 p2"))
    book.add(make_request("a"), 0.0)
    book.add(make_request("b"), 0.0)
    fleet.lose("d1")
    abort, revoke, fail = book.worker_lost("d1", 1.0)
    assert abort == Abort("p1", "prefill:a")
    assert isinstance(revoke, Revoke)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, WorkerLost)
    assert list(book.lives) == ["b"]
    book.check_integrity()


def test_a_refused_decode_leg_fails_the_request() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    *_, fail = book.leg_failed("d1", "r", WorkerFailed("d1", "draining"), 1.0)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, WorkerFailed)
    assert_empty(book)


def test_a_refused_prefill_leg_is_made_up_for() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    assert kinds(book.leg_failed("p1", "prefill:r", WorkerFailed("p1", "draining"), 1.0)) == [
        Abort,
        Revoke,
    ]
    assert book.lives["r"].handoff is Handoff.REVOKED
    book.check_integrity()


def test_a_failure_from_another_worker_means_nothing() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1"))
    book.add(make_request(), 0.0)
    assert book.leg_failed("d2", "r", WorkerFailed("d2", "confused"), 1.0) == []
    assert book.leg_failed("d1", "unknown", WorkerFailed("d1", "confused"), 1.0) == []
    book.check_integrity()


BUSY = WorkerFailed("d1", "overloaded", is_retryable=True)


def test_a_decode_leg_that_was_refused_for_now_goes_elsewhere_once() -> None:
    book, _ = make_book(Fleet("d1 d2 d3", "p1"))
    _, prefill = book.add(make_request(), 0.0)
    (submit,) = book.leg_failed("d1", "r", BUSY, 1.0)
    assert isinstance(submit, Submit)
    assert isinstance(prefill, Submit)
    other = submit.worker
    assert other in ("d2", "d3")
    assert (submit.leg, submit.ticket) == (Leg.DECODE, prefill.ticket)
    assert (book.ledger.booked("d1").num_legs, book.ledger.booked(other).num_legs) == (0, 1)
    assert book.leg_failed("d1", "r", BUSY, 2.0) == []
    assert kinds(book.leg_failed(other, "r", BUSY, 2.0)) == [Abort, Abort, Revoke, Fail]
    assert_empty(book)


def test_without_another_worker_a_busy_one_is_an_error() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1", {"d2": FLOAT_LAYOUT}))
    book.add(make_request(), 0.0)
    assert kinds(book.leg_failed("d1", "r", BUSY, 1.0))[-1] is Fail
    assert_empty(book)


def test_after_the_first_token_nothing_goes_elsewhere() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1"))
    book.add(make_request(), 0.0)
    book.first_token(book.lives["r"], 1.0)
    assert kinds(book.leg_failed("d1", "r", BUSY, 2.0))[-1] is Fail
    assert_empty(book)


def test_a_refused_ticket_is_told_to_the_prefill_worker_only() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    assert book.ticket_refused("another", "r", 1.0) == []
    assert book.ticket_refused("d1", "unknown", 1.0) == []
    abort, revoke = book.ticket_refused("d1", "r", 1.0)
    assert abort == Abort("p1", "prefill:r")
    assert isinstance(revoke, Revoke)
    assert book.ledger.workers == ("d1",)
    assert book.lives["r"].handoff is Handoff.REFUSED
    book.check_integrity()


def test_prefill_first_the_decode_leg_follows() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1"), Dispatch.PREFILL_FIRST)
    assert submits(book.add(make_request("a"), 0.0)) == [("p1", "prefill:a")]
    # The decode worker that is booked counts as taken.
    assert submits(book.add(make_request("b"), 0.0)) == [("p1", "prefill:b")]
    assert submits(book.prefill_ended("prefill:a", 1.0, b"said")) == [("d1", "a")]
    assert submits(book.prefill_ended("prefill:b", 1.0)) == [("d2", "b")]
    book.check_integrity()


def test_where_kv_is_pulled_prefill_always_comes_first() -> None:
    fleet = Fleet("", "")
    fleet.put(make_worker("d1", kv_connector="nixl", can_decode=True))
    fleet.put(make_worker("p1", kv_connector="nixl", can_prefill=True))
    book, _ = make_book(fleet)
    assert submits(book.add(make_request("a"), 0.0)) == [("p1", "prefill:a")]
    assert submits(book.prefill_ended("prefill:a", 1.0, b"where")) == [("d1", "a")]
    book.check_integrity()


def test_prefill_first_a_lost_decode_worker_fails_its_requests() -> None:
    book, fleet = make_book(Fleet("d1", "p1"), Dispatch.PREFILL_FIRST)
    book.add(make_request(), 0.0)
    fleet.lose("d1")
    assert kinds(book.worker_lost("d1", 1.0)) == [Abort, Revoke, Fail]
    assert_empty(book)


def test_only_workers_that_fit_are_paired() -> None:
    book, _ = make_book(Fleet("d1", "p1 p2", {"p1": FLOAT_LAYOUT}))
    assert submits(book.add(make_request(), 0.0)) == [("d1", "r"), ("p2", "prefill:r")]


def test_abort_passes_over_what_has_ended() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    assert kinds(book.abort(["unknown", "r", "r"], 1.0)) == [Abort, Abort, Revoke]
    assert book.abort(["r"], 2.0) == []
    assert_empty(book)


def test_deadlines_are_swept() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    assert book.overdue(TIMEOUTS.prefill - 1) == []
    assert kinds(book.overdue(TIMEOUTS.prefill)) == [Abort, Revoke]
    *_, fail = book.overdue(TIMEOUTS.prefill + TIMEOUTS.first_token)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, TimedOut)
    assert_empty(book)


def test_everything_fails_at_the_end() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1"))
    for name in ("a", "0_b", "1_b"):
        book.add(make_request(name), 0.0)
    actions = book.fail_all(ShuttingDown(), 1.0)
    assert sum(isinstance(action, Fail) for action in actions) == 3
    assert not submits(actions)
    assert_empty(book)


def test_one_sibling_goes_through_prefill_and_the_others_follow() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1"))
    assert submits(book.add(make_request("0_x"), 0.0)) == [("d1", "0_x"), ("p1", "prefill:0_x")]
    assert book.add(make_request("1_x"), 0.0) == []
    assert book.add(make_request("2_x"), 0.0) == []
    book.check_integrity()
    followers = book.first_token(book.lives["0_x"], 1.0)
    assert submits(followers) == [("d1", "1_x"), ("d1", "2_x")]
    assert all(isinstance(a, Submit) and a.ticket is None for a in followers)
    assert submits(book.add(make_request("3_x"), 2.0)) == [("d1", "3_x")]
    book.check_integrity()
    for name in ("0_x", "1_x", "2_x", "3_x"):
        book.finished(book.lives[name], 3.0)
    assert_empty(book)


def test_another_sibling_leads_when_the_leader_fails() -> None:
    book, fleet = make_book(Fleet("d1 d2", "p1"))
    for name in ("0_x", "1_x", "2_x"):
        book.add(make_request(name), 0.0)
    fleet.lose("d1")
    actions = book.worker_lost("d1", 1.0)
    assert submits(actions) == [("d2", "1_x"), ("p1", "prefill:1_x")]
    book.check_integrity()
    assert submits(book.first_token(book.lives["1_x"], 2.0)) == [("d2", "2_x")]


def test_aborting_all_siblings_starts_none() -> None:
    book, _ = make_book()
    names = ["0_x", "1_x", "2_x"]
    for name in names:
        book.add(make_request(name), 0.0)
    assert not submits(book.abort(names, 1.0))
    assert_empty(book)


def test_the_deadline_of_siblings_whom_nobody_can_lead_ends_them_all() -> None:
    book, fleet = make_book()
    fleet.lose("p1")
    fleet.lose("d1")
    fleet.find()
    for name in ("0_x", "1_x"):
        book.add(make_request(name), 0.0)
    book.leg_failed("d1", "0_x", WorkerFull("d1", "full"), 0.5)
    fleet.lose("p1")
    fleet.lose("d1")
    book.begin(1.0)
    actions = book.overdue(TIMEOUTS.first_token + 1.0)
    assert kinds(actions) == [Fail, Fail]
    assert_empty(book)


def test_siblings_of_a_lost_home_start_anew() -> None:
    book, fleet = make_book(Fleet("d1 d2", "p1"))
    book.add(make_request("0_x"), 0.0)
    book.first_token(book.lives["0_x"], 1.0)
    fleet.lose("d1")
    book.worker_lost("d1", 2.0)
    assert submits(book.add(make_request("1_x"), 3.0)) == [("d2", "1_x"), ("p1", "prefill:1_x")]
    book.check_integrity()


@pytest.mark.parametrize("dispatch", Dispatch)
@pytest.mark.parametrize("seed", range(20))
def test_any_history_keeps_the_books_straight_and_ends_empty(seed: int, dispatch: Dispatch) -> None:
    chance = random.Random(seed)
    book, fleet = make_book(Fleet("d1 d2 d3", "p1 p2"), dispatch)
    opened: set[tuple[str, str]] = set()
    closed: set[tuple[str, str]] = set()

    refusal = WorkerFailed("p", "no", is_retryable=chance.random() < 0.5)

    def note(actions: list[Action]) -> None:
        opened.update(submits(actions))
        closed.update((a.worker, a.leg_id) for a in actions if isinstance(a, Abort))

    for now in range(200):
        name = f"{chance.randrange(3)}_{now // 3}" if chance.random() < 0.5 else f"r{now}"
        note(book.add(make_request(name, can_hand_off=chance.random() < 0.8), float(now)))
        life = chance.choice(list(book.lives.values())) if book.lives else None
        event = chance.randrange(10)
        if event == 0:
            fleet.find()
        elif event == 1:
            worker = chance.choice(["d1", "d2", "d3", "p1", "p2"])
            fleet.lose(worker)
            note(book.worker_lost(worker, float(now)))
        elif life is None:
            pass
        elif event == 2:
            note(book.abort([life.request.request_id], float(now)))
        elif event == 3:
            note(book.prefill_ended(life.prefill_leg_id, float(now)))
        elif event == 4 and life.stage is Stage.SUBMITTED:
            note(book.first_token(life, float(now)))
        elif event == 5 and life.stage in (Stage.SUBMITTED, Stage.STREAMING):
            note(book.finished(life, float(now)))
        elif event == 7 and life.decode_worker:
            name = life.request.request_id
            note(book.leg_failed(life.decode_worker, name, refusal, float(now)))
        elif event == 8 and life.decode_worker and life.stage is Stage.SUBMITTED:
            note(book.ticket_refused(life.decode_worker, life.request.request_id, float(now)))
        elif event == 6 and life.prefill_worker:
            note(book.leg_failed(life.prefill_worker, life.prefill_leg_id, refusal, float(now)))
        else:
            note(book.overdue(float(now)))
        book.check_integrity()
    note(book.abort(list(book.lives), 1000.0))
    assert_empty(book)
    assert closed <= opened


def test_what_is_still_told_of_an_earlier_prefill_leg_is_not_about_the_next() -> None:
    book, _ = make_book(Fleet("d1 d2", "p1 p2"))
    book.add(make_request(), 0.0)
    actions = book.leg_failed("d1", "r", WorkerFull("d1", "full"), 0.5)
    assert submits(actions) == [("d2", "r"), ("p1", "prefill-2:r")] or submits(actions) == [
        ("d2", "r"),
        ("p2", "prefill-2:r"),
    ]
    assert book.prefill_ended("prefill:r", 0.6) == []
    life = book.lives["r"]
    assert life.prefill_worker is not None
    assert life.prefill_ended_at is None
    book.check_integrity()


def test_who_has_to_wait_again_keeps_what_it_has_waited() -> None:
    book, _ = make_book()
    book.add(make_request(), 0.0)
    book.leg_failed("d1", "r", WorkerFull("d1", "full"), 20.0)
    (item,) = book.dispatcher.lanes
    assert item.since == 0.0


def test_an_answer_that_outgrows_its_room_is_promised_more_on_both_sides() -> None:
    book, fleet = make_book()
    book.add(make_request(), 0.0)
    life = book.lives["r"]
    book.first_token(life, 1.0)
    before = book.ledger.booked("d1").kv_tokens
    life.num_outputs = before
    (reserve,) = book.grown(life, 2.0)
    grown = book.ledger.booked("d1").kv_tokens
    assert reserve == Reserve("d1", "r", grown)
    assert grown > before + 100
    assert grown % fleet.table.block_tokens == 0
    assert life.room_for_outputs > life.num_outputs
