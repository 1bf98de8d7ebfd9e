from __future__ import annotations

import pytest

from worker.errors import DuplicateRequest
from worker.ledger import Ledger
from worker.leg import Role


def test_both_legs_of_a_request_are_told_apart() -> None:
    ledger = Ledger()
    decode = ledger.open(1, "r", Role.DECODE)
    prefill = ledger.open(1, "p-r", Role.PREFILL)
    routes = ledger.route([(decode.engine_id, False), (prefill.engine_id, True)])
    assert routes == {1: {decode.engine_id: "r", prefill.engine_id: "p-r"}}
    assert repr(ledger) == "<Ledger: 0 prefill, 1 decode, 1 sessions>"
    ledger.check_integrity()


def test_one_id_in_two_sessions_is_two_requests() -> None:
    ledger = Ledger()
    ours, theirs = ledger.open(1, "r", Role.DECODE), ledger.open(2, "r", Role.DECODE)
    assert ledger.route([(theirs.engine_id, False), (ours.engine_id, False)]) == {
        2: {theirs.engine_id: "r"},
        1: {ours.engine_id: "r"},
    }
    ledger.check_integrity()


def test_an_open_id_is_taken_and_a_closed_one_is_free() -> None:
    ledger = Ledger()
    first = ledger.open(1, "r", Role.DECODE)
    with pytest.raises(DuplicateRequest):
        ledger.open(1, "r", Role.PREFILL)
    assert ledger.close_request(1, "r") == first
    second = ledger.open(1, "r", Role.DECODE)
    assert second.engine_id != first.engine_id
    ledger.check_integrity()


def test_the_last_output_closes_a_leg() -> None:
    ledger = Ledger()
    leg = ledger.open(1, "r", Role.DECODE)
    assert ledger.route([(leg.engine_id, True)]) == {1: {leg.engine_id: "r"}}
    assert ledger.route([(leg.engine_id, True)]) == {}
    assert ledger.num_open(Role.DECODE) == 0
    ledger.check_integrity()


def test_outputs_of_a_given_up_leg_go_nowhere() -> None:
    ledger = Ledger()
    leg = ledger.open(1, "r", Role.DECODE)
    ledger.close_request(1, "r")
    assert ledger.route([(leg.engine_id, False)]) == {}


def test_a_session_closes_with_all_its_legs() -> None:
    ledger = Ledger()
    legs = [ledger.open(1, f"r{i}", Role.PREFILL) for i in range(3)]
    other = ledger.open(2, "r0", Role.PREFILL)
    assert ledger.close_session(1) == legs
    assert ledger.close_session(1) == []
    assert ledger.num_open(Role.PREFILL) == 1
    assert ledger.route([(other.engine_id, False)]) == {2: {other.engine_id: "r0"}}
    ledger.check_integrity()


def test_closing_what_is_not_open_does_nothing() -> None:
    ledger = Ledger()
    assert ledger.close("decode-1-r") is None
    assert ledger.close_request(1, "r") is None
    ledger.check_integrity()


def test_a_leg_may_reserve_more_while_it_is_open() -> None:
    ledger = Ledger()
    ledger.open(1, "a", Role.DECODE, kv_tokens=100)
    leg = ledger.open(1, "b", Role.DECODE, kv_tokens=50)
    assert ledger.reserve(1, "b", 200)
    assert ledger.reserved_tokens == 300
    assert not ledger.reserve(2, "b", 1000)
    ledger.check_integrity()
    ledger.close(leg.engine_id)
    assert not ledger.reserve(1, "b", 1000)
    assert ledger.reserved_tokens == 100
    ledger.check_integrity()


def test_a_broken_index_is_found() -> None:
    ledger = Ledger()
    leg = ledger.open(1, "r", Role.DECODE)
    del ledger._legs[leg.engine_id]
    with pytest.raises(AssertionError, match="missing in an index"):
        ledger.check_integrity()
