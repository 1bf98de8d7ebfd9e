from __future__ import annotations

from gateway.routing.booked import Booked
from gateway.routing.filters import FILTERS
from gateway.routing.fleet_table import FleetTable
from gateway.routing.scene import Scene
from tests.gateway.builders import Fleet, make_report, make_worker
from tests.gateway.routing.builders import make_query, make_scene, told


def caches(**sizes: int) -> FleetTable:
    table = FleetTable()
    for key, size in sizes.items():
        table.put(make_worker(key, can_decode=True, kv_tokens=size), is_usable=True)
    return table


def passing(name: str, scene: Scene) -> set[str]:
    passes = FILTERS[name](scene)
    return {key for key, row in scene.table.rows.items() if passes[row]}


def test_a_prompt_must_fit_into_an_empty_cache() -> None:
    table = caches(small=999, equal=1000, large=5000)
    table.book("large", Booked(num_legs=1, kv_tokens=5000), 0.0)
    assert passing("capacity", make_scene(table, make_query(table, 1000))) == {"equal", "large"}


def test_credit_is_room_that_is_promised_to_nobody() -> None:
    table = caches(d1=2000, d2=2000)
    table.book("d1", Booked(num_legs=1, kv_tokens=800), 0.0)
    table.book("d2", Booked(num_legs=1, kv_tokens=801), 0.0)
    assert passing("credit", make_scene(table, make_query(table, 1000, 1200))) == {"d1"}


def test_room_promised_by_other_gateways_is_not_free() -> None:
    table = caches(d1=2000)
    report = make_report(num_running=1)
    report.num_reserved_tokens = 801
    told(table, "d1", report=report)
    assert passing("credit", make_scene(table, make_query(table, 1000, 1200))) == set()


def test_who_is_idle_takes_even_what_may_outgrow_its_cache() -> None:
    table = caches(d1=1100, d2=1100)
    table.book("d2", Booked(num_legs=1, kv_tokens=1), 0.0)
    assert passing("credit", make_scene(table, make_query(table, 1000, 1200))) == {"d1"}


def test_who_runs_others_requests_is_not_idle() -> None:
    table = caches(d1=1100)
    report = make_report(num_running=1)
    report.num_reserved_tokens = 1
    told(table, "d1", report=report)
    assert passing("credit", make_scene(table, make_query(table, 1000, 1200))) == set()


def test_the_slow_are_those_below_a_quarter_of_the_middle() -> None:
    table = Fleet("", "p1 p2 p3").table
    told(table, "p1", token_seconds=0.001)
    told(table, "p2", token_seconds=0.001)
    told(table, "p3", token_seconds=0.00416667)
    assert passing("not-slow", make_scene(table)) == {"p1", "p2"}
    told(table, "p3", token_seconds=1)
    assert passing("not-slow", make_scene(table)) == {"p1", "p2"}


def test_as_long_as_nobody_has_told_nobody_is_slow() -> None:
    assert passing("not-slow", make_scene(Fleet("d1", "p1").table)) == {"d1", "p1"}
