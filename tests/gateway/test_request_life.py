from __future__ import annotations

import itertools

import pytest

from gateway.actions import Abort, Action, Fail, Leg, Revoke, Submit
from gateway.errors import NoDecodeWorker, TimedOut
from gateway.request_life import Handoff, Outcome, RequestLife, Stage
from tests.gateway.builders import TIMEOUTS, make_life, make_ticket


def make_handed_off() -> RequestLife:
    life = make_life()
    life.submit(0.0, "d", "p", make_ticket())
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


EVENTS = {
    "prefill_ended": lambda life: life.prefill_ended(1.0),
    "prefill_failed": lambda life: life.prefill_failed(1.0, "failed"),
    "first_token": lambda life: life.first_token(1.0),
    "late": lambda life: life.overdue(1000.0),
    "lost": lambda life: life.fail(1.0, NoDecodeWorker(), lost_worker="d"),
    "abort": lambda life: life.abort(1.0),
    "finish": lambda life: life.finish(1.0),
}


@pytest.mark.parametrize("order", list(itertools.permutations(EVENTS, 3)))
def test_every_order_of_events_ends_with_every_leg_closed_once(order: tuple[str, ...]) -> None:
    life = make_handed_off()
    actions: list[Action] = []
    for event in (*order, "abort"):
        if life.stage is not Stage.ENDED:
            actions += EVENTS[event](life) or []
            life.check_integrity()
    assert life.stage is Stage.ENDED
    aborts = [action for action in actions if isinstance(action, Abort)]
    assert len(aborts) == len(set(aborts))
    assert sum(isinstance(action, Fail) for action in actions) <= 1
