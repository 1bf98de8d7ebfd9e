"""Who waits keeps what it has waited, is looked at, and is not in the way of others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.routing.booked import Booked
from gateway.routing.decider import Decider, Mode
from gateway.routing.dispatcher import MAX_TRIED
from gateway.routing.fleet_table import FIRST_ROWS, FleetTable
from gateway.routing.hits import NoHits
from gateway.routing.router import Router
from gateway.routing.takeover import taken_over
from gateway.routing.way import Slo
from proto import worker_pb2
from tests.gateway.builders import make_worker
from tests.gateway.routing.builders import (
    Desk,
    make_fleet,
    make_prompt,
    make_query,
    make_waiting,
    told,
)


class CountedHits(NoHits):
    """Every plan asks once."""

    num_asked = 0

    def of(self, keys: object) -> tuple:  # type: ignore[type-arg]
        self.num_asked += 1
        return super().of({})


def test_a_short_prompt_passes_any_number_of_long_ones() -> None:
    desk = Desk(make_fleet("d1", "p1"), Mode.ALWAYS)
    for number in range(3 * MAX_TRIED):
        desk.add(make_prompt(f"long{number}", 50_000))
    assert list(desk.begin()) == ["long0"]
    # So late that it stands behind many of them.
    desk.add(make_prompt("short", 200), 2000.0)
    desk.begin(2000.0)
    desk.add(make_prompt("shorter", 100), 2000.0)
    assert "short" in desk.sent
    assert "shorter" in desk.begin(2000.0)


def test_waiting_counts_from_when_it_came() -> None:
    desk = Desk(make_fleet("d1", "p1"), Mode.ALWAYS)
    desk.add(make_prompt("first", 1000))
    desk.begin()
    desk.dispatcher.add(make_prompt("later", 2000), 10.0)
    desk.dispatcher.add(make_prompt("earlier", 2000), 10.0, since=1.0)
    assert [item.request_id for item in desk.dispatcher.lanes.lane("p1")] == ["earlier", "later"]


def test_whom_nobody_can_take_is_planned_again_when_others_are_usable() -> None:
    table = make_fleet("d1", "p1")
    hits = CountedHits(table)
    desk = Desk(table, Mode.ALWAYS, hits=hits)
    desk.add(make_prompt("busy", 50_000))
    desk.begin()
    for number in range(5):
        desk.add(make_prompt(f"r{number}", 50_000))
    for key in ("d1", "p1"):
        table.put(table.facts(table.rows[key]), is_usable=False)
    desk.begin(1.0)
    asked = hits.num_asked
    for number in range(10):
        assert desk.begin(2.0 + number) == {}
    assert hits.num_asked == asked
    for key in ("d1", "p1"):
        table.put(table.facts(table.rows[key]), is_usable=True)
    desk.ended("busy", 20.0)
    assert len(desk.begin(20.0)) == 1


def test_a_newcomer_costs_those_who_wait_no_plan() -> None:
    table = make_fleet("d1", "p1 p2")
    hits = CountedHits(table)
    desk = Desk(table, Mode.ALWAYS, hits=hits)
    for number in range(20):
        desk.add(make_prompt(f"r{number}", 50_000))
    desk.begin()
    asked = hits.num_asked
    table.put(make_worker("p3", can_prefill=True), is_usable=True)
    # It has nothing to do, and takes over.
    assert [way.partition(">")[0] for way in desk.begin(1.0).values()] == ["p3"]
    assert hits.num_asked == asked


def test_a_fleet_that_outgrows_its_table_plans_anew() -> None:
    table = make_fleet("d1", "p1")
    desk = Desk(table, Mode.ALWAYS)
    for number in range(4):
        desk.add(make_prompt(f"r{number}", 50_000))
    desk.begin()
    for number in range(2, FIRST_ROWS + 2):
        table.put(make_worker(f"p{number}", can_prefill=True), is_usable=True)
    assert len(desk.begin(1.0)) == 3


def test_the_cache_of_a_worker_that_left_is_not_the_next_ones() -> None:
    table = make_fleet("d1", "p1 p2")
    desk = Desk(table, Mode.ALWAYS)
    for number in range(6):
        desk.add(make_prompt(f"r{number}", 50_000))
    desk.begin()
    row = table.rows["p2"]
    for item in desk.dispatcher.lanes:
        item.query.cached[row] = 49_000
    table.remove("p2")
    table.put(make_worker("p9", can_prefill=True), is_usable=True)
    assert table.rows["p9"] == row
    desk.begin(1.0)
    assert all(item.query.cached[row] == 0 for item in desk.dispatcher.lanes)


def test_room_is_kept_for_who_was_planned_not_for_who_might_have_taken_over() -> None:
    desk = Desk(make_fleet("d1 d2", "p1", kv_tokens=100_000), Mode.AUTO)
    others = worker_pb2.LoadReport(num_running=5, num_reserved_tokens=95_000)
    desk.table.report("d1", others, 0.0)
    desk.add(make_prompt("busy", 50_000))
    assert desk.begin() in ({"busy": "p1>d2"}, {"busy": "d2"})
    desk.add(make_prompt("large", 60_000))
    # One decode worker has no prompts to compute, but lacks the room, too.
    for now in (1.0, 6.0, 12.0):
        assert desk.begin(now) == {}
    desk.streams("busy", 60.0)
    desk.add(make_prompt("small", 6000), 60.0)
    assert desk.begin(60.0) == {}
    assert desk.begin(61.0) == {}
    desk.ended("busy", 62.0)
    assert next(iter(desk.begin(62.0))) == "large"


@pytest.mark.parametrize(("goal", "is_taken"), [(0.0, False), (0.2, True)])
def test_an_idle_decode_worker_takes_over_in_pieces_that_its_goal_allows(
    goal: float, is_taken: bool
) -> None:
    table = FleetTable()
    answering = make_worker("d1", can_decode=True)
    table.put(replace(answering, itl_goal_seconds=goal), is_usable=True)
    table.put(make_worker("p1", can_prefill=True), is_usable=True)
    for key in ("d1", "p1"):
        told(table, key, token_seconds=0.001, step_seconds=0.01)
    table.book("d1", Booked(num_legs=2), 0.0)
    table.book("p1", Booked(num_legs=1, num_prefills=1, num_long=1, prefill_seconds=900.0), 0.0)
    item = make_waiting(worker="p1", seconds=50.0, query=make_query(table, 50_000, 50_100))
    router = Router(table, decider=Decider(Mode.AUTO, Slo(itl_seconds=0.2)))
    taken = taken_over(item, table.rows["d1"], router, 0.0)
    assert (taken is not None) == is_taken
