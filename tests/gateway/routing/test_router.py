from __future__ import annotations

import pytest

from gateway.routing.booked import Booked
from gateway.routing.decider import Decider, Mode, Verdict
from gateway.routing.fleet_table import FleetTable
from gateway.routing.policy import POLICIES
from gateway.routing.router import Router
from gateway.routing.way import Slo, Way
from tests.gateway.builders import Fleet, make_worker
from tests.gateway.routing.builders import make_fleet, make_query, told
from tests.proto.builders import FLOAT_LAYOUT


def make_router(table: FleetTable, mode: Mode = Mode.AUTO, routing: str = "default") -> Router:
    return Router(table, POLICIES[routing], Decider(mode, Slo(), 0.0, seed=1))


def planned(router: Router, num_tokens: int = 1000, **cached: int) -> tuple[str, Way]:
    query = make_query(router.table, num_tokens, num_tokens + 100, cached)
    plan = router.plan(query, 0.0)
    assert plan is not None
    return router.table.keys[plan.row], plan.verdict.way


def test_both_ways_are_predicted() -> None:
    router = make_router(make_fleet())
    plan = router.plan(make_query(router.table), 0.0)
    assert plan is not None
    assert plan.verdict.forecasts.keys() == {Way.REMOTE, Way.LOCAL}
    forecasts = plan.verdict.forecasts
    assert forecasts[Way.LOCAL].ttft_seconds == pytest.approx(1.0, rel=0.05)
    # The last token is computed where it is decoded.
    assert forecasts[Way.REMOTE].ttft_seconds == pytest.approx(1.01, rel=0.05)


def test_a_prompt_goes_where_most_of_it_is_cached() -> None:
    router = make_router(make_fleet("d1", "p1 p2 p3"), Mode.ALWAYS)
    assert planned(router, p2=900) == ("p2", Way.REMOTE)


def test_what_the_decode_worker_has_in_its_cache_it_computes_itself() -> None:
    table = make_fleet("d1", "p1")
    assert planned(make_router(table), d1=999) == ("d1", Way.LOCAL)


def test_a_prompt_that_would_stall_streams_for_long_is_handed_over() -> None:
    table = make_fleet("d1", "p1")
    table.book("d1", Booked(num_legs=8), 0.0)
    table.columns.stall_seconds[table.rows["d1"]] = 0.005
    assert planned(make_router(table)) == ("p1", Way.REMOTE)


def test_without_a_decode_worker_there_is_no_plan() -> None:
    table = make_fleet("", "p1")
    assert make_router(table).plan(make_query(table), 0.0) is None


def test_a_prefill_worker_that_fits_nobody_gets_nothing() -> None:
    table = Fleet("d1", "p1", {"p1": FLOAT_LAYOUT}).table
    assert planned(make_router(table, Mode.ALWAYS)) == ("d1", Way.LOCAL)


def test_a_prefill_worker_whose_cache_is_too_small_gets_nothing() -> None:
    table = Fleet("d1", "").table
    table.put(make_worker("p1", can_prefill=True, kv_tokens=999), is_usable=True)
    assert planned(make_router(table, Mode.ALWAYS)) == ("d1", Way.LOCAL)


def test_nobody_hands_over_to_itself() -> None:
    table = FleetTable()
    table.put(make_worker("both", can_prefill=True, can_decode=True), is_usable=True)
    router = make_router(table, Mode.ALWAYS)
    assert planned(router) == ("both", Way.LOCAL)
    assert router.decode_for(make_query(table), 0, 1.0, 0.0) is None


def test_who_gave_a_request_up_does_not_get_it_again() -> None:
    table = make_fleet("d1 d2", "p1")
    router, query = make_router(table), make_query(table)
    decode = router.decode_for(query, table.rows["p1"], 1.0, 0.0, without="d1")
    local = router.local_for(query, 0.0, without="d1")
    assert decode is not None
    assert local is not None
    assert decode.row == local.row == table.rows["d2"]
    assert table.columns.can_decode[table.rows["d1"]]
    assert router.local_for(query, 0.0, without="gone") is not None


def test_a_plan_for_another_worker_says_what_it_takes_there() -> None:
    table = make_fleet("d1", "p1 p2")
    told(table, "p2", token_seconds=0.003)
    router = make_router(table)
    plan = router.plan_on(table.rows["p2"], make_query(table), Verdict(Way.REMOTE), 0.0)
    assert plan.verdict.way is Way.REMOTE
    assert plan.num_tokens == 1000
    assert plan.seconds == pytest.approx(3.0, rel=0.1)


def test_credit_is_room_or_idleness() -> None:
    table = make_fleet("d1 d2", "", kv_tokens=1000)
    router = make_router(table)
    query = make_query(table, 900, 2000)
    table.book("d1", Booked(num_legs=1, kv_tokens=1), 0.0)
    assert not router.has_credit(table.rows["d1"], query)
    assert router.has_credit(table.rows["d2"], query)
    assert router.has_credit(table.rows["d1"], make_query(table, 900, 999))


@pytest.mark.parametrize("routing", POLICIES)
def test_by_every_policy_requests_spread(routing: str) -> None:
    table = make_fleet("d1 d2 d3", "p1 p2 p3")
    router = make_router(table, Mode.ALWAYS, routing)
    prefill, decode = set(), set()
    for number in range(3):
        query = make_query(table)
        plan = router.plan(query, 0.0)
        assert plan is not None
        choice = router.decode_for(query, plan.row, 1.0, 0.0)
        assert choice is not None
        prefill.add(plan.row)
        decode.add(choice.row)
        key = table.keys[plan.row]
        table.book(key, Booked(1, 1, 1, 1000, 1.0), float(number))
        table.book(table.keys[choice.row], Booked(1, 1, 0, 0, 0.0, 1200), float(number))
    assert len(prefill) == len(decode) == 3
