from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from gateway.actions import Abort, Action, Fail, Leg, Revoke, Submit
from gateway.errors import NoDecodeWorker, TimedOut
from gateway.request_life import Dispatch, Handoff, Outcome, RequestLife, Stage
from tests.gateway.builders import TIMEOUTS, make_life, make_ticket


def make_handed_off(dispatch: Dispatch = Dispatch.TOGETHER) -> RequestLife:
    life = make_life()
    life.submit(0.0, "d", "p", make_ticket(), dispatch)
    return life


def test_decode_is_submitted_before_prefill_and_both_hold_the_ticket() -> None:
    life, ticket = make_life(), make_ticket()
    first, second = life.submit(0.0, "d", "p", ticket)
    assert first == Submit("d", Leg.DECODE, "r", life.request, ticket)
    assert second == Submit("p", Leg.PREFILL, "prefill:r", life.request, ticket)
    assert life.open_legs() == (("d", "r"), ("p", "prefill:r"))
    life.check_integrity()


def test_a_request_without_ticket_is_local() -> None:
    life = make_life()
    assert len(life.submit(0.0, "d")) == 1
    life.first_token(1.0)
    assert life.handoff is Handoff.LOCAL
    life.check_integrity()


def test_a_finished_hand_off_was_moved_and_leaves_nothing_open() -> None:
    life = make_handed_off()
    life.prefill_ended(1.0)
    life.first_token(2.0)
    assert life.finish(3.0) == []
    assert (life.handoff, life.outcome) == (Handoff.MOVED, Outcome.FINISHED)
    assert (life.prefill_seconds, life.first_token_seconds, life.total_seconds) == (1.0, 2.0, 3.0)
    life.check_integrity()


def test_a_prefill_leg_that_is_still_open_at_the_end_is_aborted() -> None:
    life = make_handed_off()
    life.first_token(1.0)
    assert life.finish(2.0) == [Abort("p", "prefill:r")]
    life.check_integrity()


def test_a_failed_prefill_revokes_the_ticket_once() -> None:
    life = make_handed_off()
    ticket = life.ticket
    assert ticket
    abort, revoke = life.prefill_failed(1.0, "out of memory")
    assert abort == Abort("p", "prefill:r")
    assert revoke == Revoke("d", ticket.id, "out of memory")
    assert life.prefill_failed(2.0, "again") == []
    assert life.handoff is Handoff.REVOKED
    life.check_integrity()


def test_a_lost_prefill_worker_is_told_nothing() -> None:
    life = make_handed_off()
    (revoke,) = life.prefill_failed(1.0, "lost", is_reachable=False)
    assert isinstance(revoke, Revoke)


def test_after_the_first_token_a_failed_prefill_means_nothing_to_decode() -> None:
    life = make_handed_off()
    life.first_token(1.0)
    assert life.prefill_failed(2.0, "late") == [Abort("p", "prefill:r")]
    assert life.handoff is Handoff.MOVED


def test_a_refused_ticket_ends_the_prefill_leg_and_frees_its_kv() -> None:
    life = make_handed_off()
    ticket = life.ticket
    assert ticket
    abort, revoke = life.ticket_refused(1.0)
    assert abort == Abort("p", "prefill:r")
    assert revoke == Revoke("p", ticket.id, "the decode worker refused the ticket")
    assert (life.handoff, life.stage) == (Handoff.REFUSED, Stage.SUBMITTED)
    assert life.deadline == 1.0 + TIMEOUTS.first_token
    assert life.ticket_refused(2.0) == []
    life.check_integrity()


def test_kv_that_was_computed_for_a_refused_ticket_is_freed() -> None:
    life = make_handed_off()
    life.prefill_ended(1.0)
    (revoke,) = life.ticket_refused(2.0)
    assert isinstance(revoke, Revoke)
    assert revoke.worker == "p"


def test_prefill_first_submits_the_decode_leg_when_prefill_has_ended() -> None:
    life, ticket = make_life(), make_ticket()
    (prefill,) = life.submit(0.0, "d", "p", ticket, Dispatch.PREFILL_FIRST)
    assert prefill == Submit("p", Leg.PREFILL, "prefill:r", life.request, ticket)
    assert life.stage is Stage.PREFILLING
    # The decode worker is booked already.
    assert life.open_legs() == (("d", "r"), ("p", "prefill:r"))
    life.check_integrity()
    (decode,) = life.prefill_ended(1.0, b"said")
    assert decode == Submit("d", Leg.DECODE, "r", life.request, ticket, b"said")
    assert life.deadline == 1.0 + TIMEOUTS.first_token
    life.first_token(2.0)
    assert life.handoff is Handoff.MOVED
    life.check_integrity()


@pytest.mark.parametrize("is_reachable", [True, False])
def test_prefill_first_decode_computes_what_a_lost_prefill_has_not(is_reachable: bool) -> None:
    life = make_handed_off(Dispatch.PREFILL_FIRST)
    *aborts, decode = life.prefill_failed(1.0, "lost", is_reachable)
    assert aborts == ([Abort("p", "prefill:r")] if is_reachable else [])
    assert decode == Submit("d", Leg.DECODE, "r", life.request, None)
    assert (life.handoff, life.stage) == (Handoff.REVOKED, Stage.SUBMITTED)
    life.check_integrity()


def test_prefill_first_decode_computes_what_is_late() -> None:
    life = make_handed_off(Dispatch.PREFILL_FIRST)
    abort, decode = life.overdue(TIMEOUTS.prefill)
    assert abort == Abort("p", "prefill:r")
    assert decode == Submit("d", Leg.DECODE, "r", life.request, None)


def test_prefill_first_only_what_was_submitted_is_aborted() -> None:
    life = make_handed_off(Dispatch.PREFILL_FIRST)
    abort, revoke = life.abort(1.0)
    assert abort == Abort("p", "prefill:r")
    assert isinstance(revoke, Revoke)
    assert revoke.worker == "p"
    life.check_integrity()


def test_without_a_prefill_worker_there_is_nothing_to_wait_for() -> None:
    life = make_life()
    (submit,) = life.submit(0.0, "d", dispatch=Dispatch.PREFILL_FIRST)
    assert isinstance(submit, Submit)
    assert submit.leg is Leg.DECODE


def test_a_moved_decode_leg_takes_its_hand_off_along() -> None:
    life = make_handed_off()
    (submit,) = life.move(1.0, "d2")
    assert submit == Submit("d2", Leg.DECODE, "r", life.request, life.ticket)
    assert life.open_legs() == (("d2", "r"), ("p", "prefill:r"))
    assert life.has_moved
    life.check_integrity()


def test_an_abort_reaches_both_legs_and_the_kv_that_nobody_fetches() -> None:
    life = make_handed_off()
    ticket = life.ticket
    assert ticket
    assert life.abort(1.0) == [
        Abort("d", "r"),
        Abort("p", "prefill:r"),
        Revoke("p", ticket.id, "request aborted"),
    ]
    assert life.outcome is Outcome.ABORTED
    life.check_integrity()


def test_an_abort_while_waiting_has_nobody_to_tell() -> None:
    life = make_life()
    assert life.abort(1.0) == []
    life.check_integrity()


def test_a_failure_tells_everyone_but_the_lost_worker() -> None:
    life, error = make_handed_off(), NoDecodeWorker()
    actions = life.fail(1.0, error, lost_worker="d")
    assert [type(action) for action in actions] == [Abort, Revoke, Fail]
    assert all(a.worker == "p" for a in actions if not isinstance(a, Fail))
    assert (life.handoff, life.outcome) == (Handoff.FAILED, Outcome.FAILED)
    life.check_integrity()


def test_a_late_prefill_is_revoked_and_decode_gets_its_time_anew() -> None:
    life = make_handed_off()
    assert life.overdue(TIMEOUTS.prefill - 0.1) == []
    actions = life.overdue(TIMEOUTS.prefill)
    assert [type(action) for action in actions] == [Abort, Revoke]
    assert life.deadline == TIMEOUTS.prefill + TIMEOUTS.first_token


@pytest.mark.parametrize("stage", ["waiting", "submitted"])
def test_a_late_first_token_fails_the_request(stage: str) -> None:
    life = make_life()
    if stage == "submitted":
        life.submit(0.0, "d")
    *_, fail = life.overdue(TIMEOUTS.first_token)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, TimedOut)
    assert fail.error.stage == "first token"
    assert fail.error.status == 504


def test_a_gap_between_tokens_fails_the_request() -> None:
    life = make_life()
    life.submit(0.0, "d")
    life.first_token(1.0)
    assert life.overdue(1.0 + TIMEOUTS.between_tokens - 0.1) == []
    abort, fail = life.overdue(1.0 + TIMEOUTS.between_tokens)
    assert abort == Abort("d", "r")
    assert isinstance(fail, Fail)


def test_repr_shows_the_open_legs() -> None:
    life = make_handed_off()
    assert repr(life) == "<RequestLife r submitted: r at d, prefill:r at p>"
    life.abort(1.0)
    assert repr(life) == "<RequestLife r ended: no legs>"


EVENTS: dict[str, Callable[[RequestLife], list[Action] | None]] = {
    "refused": lambda life: life.ticket_refused(1.0),
    "moved": lambda life: life.move(1.0, "d2") if life.stage is Stage.SUBMITTED else [],
    "prefill_ended": lambda life: life.prefill_ended(1.0),
    "prefill_failed": lambda life: life.prefill_failed(1.0, "failed"),
    "first_token": lambda life: life.first_token(1.0) if life.stage is Stage.SUBMITTED else None,
    "late": lambda life: life.overdue(1000.0),
    "lost": lambda life: life.fail(1.0, NoDecodeWorker(), lost_worker="d"),
    "abort": lambda life: life.abort(1.0),
    "finish": lambda life: life.finish(1.0),
}


@pytest.mark.parametrize("dispatch", Dispatch)
@pytest.mark.parametrize("order", list(itertools.permutations(EVENTS, 3)))
def test_every_order_of_events_ends_with_every_leg_closed_once(
    order: tuple[str, ...], dispatch: Dispatch
) -> None:
    life = make_handed_off(dispatch)
    actions: list[Action] = []
    for event in (*order, "abort"):
        if life.stage is not Stage.ENDED:
            actions += EVENTS[event](life) or []
            life.check_integrity()
    assert life.stage is Stage.ENDED
    aborts = [action for action in actions if isinstance(action, Abort)]
    assert len(aborts) == len(set(aborts))
    assert sum(isinstance(action, Fail) for action in actions) <= 1
    decode = [a.worker for a in actions if isinstance(a, Submit) and a.leg is Leg.DECODE]
    assert len(decode) == len(set(decode))
