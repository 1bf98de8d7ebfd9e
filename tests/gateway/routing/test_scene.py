from __future__ import annotations

import numpy as np
import pytest

from gateway.routing.booked import Booked
from gateway.routing.pair_table import PairTable
from tests.gateway.routing.builders import by_key, make_fleet, make_query, make_scene, told


def test_what_is_cached_is_not_computed_but_for_the_last_token() -> None:
    table = make_fleet("d1", "p1 p2 p3")
    query = make_query(
        table, 1000, cached={"p1": 400, "p2": 1000}, cached_below={"p1": 600, "p3": 1000}
    )
    uncached = by_key(table, make_scene(table, query).uncached_tokens)
    # Loading from below the device costs a tenth of computing it.
    assert uncached == pytest.approx({"d1": 1000, "p1": 420, "p2": 1, "p3": 100})


def test_a_prompt_beside_running_sequences_takes_what_it_stalls_them() -> None:
    table = make_fleet("d1 d2", "")
    row = table.rows["d1"]
    table.columns.stall_seconds[row] = 0.003
    assert by_key(table, make_scene(table).compute_seconds)["d1"] == pytest.approx(1.0, rel=0.05)
    table.book("d1", Booked(num_legs=1), 0.0)
    seconds = by_key(table, make_scene(table).compute_seconds)
    assert seconds == pytest.approx({"d1": 3.0, "d2": 1.0}, rel=0.05)


def test_of_what_waits_here_only_the_shorter_ones_go_first() -> None:
    table = make_fleet("d1", "p1 p2")
    table.queue(table.rows["p1"], 2, 100.0)
    table.queue(table.rows["p2"], 2, 0.5)
    waits = by_key(table, make_scene(table).wait_seconds)
    assert waits == pytest.approx({"d1": 0, "p1": 2.0, "p2": 0.5}, rel=0.05)


def test_kv_is_late_by_what_the_target_lacks() -> None:
    table = make_fleet("d1 d2", "p1")
    pairs, rows = PairTable(), table.rows
    per_token = table.facts(0).layout.bytes_per_token
    for key in ("d1", "d2"):
        for _ in range(2):
            pairs.observe(rows["p1"], rows[key], 1000 * per_token, 1e-6, 2.0)
    query = make_query(table, 1000, cached={"d2": 750})
    late = by_key(table, make_scene(table, query, pairs, source="p1").late_seconds)
    assert late["d1"] == pytest.approx(2.0, rel=0.01)
    assert late["d2"] == pytest.approx(0.5, rel=0.01)
    assert not make_scene(table, query, pairs).late_seconds.any()


def test_the_next_step_has_one_sequence_more() -> None:
    table = make_fleet("d1 d2", "")
    table.book("d1", Booked(num_legs=100), 0.0)
    steps = by_key(table, make_scene(table).step_seconds)
    assert steps["d1"] >= steps["d2"] > 0
    expected = by_key(table, table.step_seconds(np.full(8, 101.0)))["d1"]
    assert steps["d1"] == pytest.approx(expected)


def test_ready_is_waiting_and_computing() -> None:
    table = make_fleet("d1", "p1")
    told(table, "p1", token_seconds=0.002)
    table.book("p1", Booked(1, 1, 1, 1000, 3.0), 0.0)
    ready = by_key(table, make_scene(table, now=1.0).ready_seconds)
    assert ready["p1"] == pytest.approx(4.0, rel=0.05)
