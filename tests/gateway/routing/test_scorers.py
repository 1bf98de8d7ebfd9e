from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.booked import Booked
from gateway.routing.fleet_table import FleetTable
from gateway.routing.pair_table import PairTable
from gateway.routing.scene import Query, Scene
from gateway.routing.scorers import SCORERS
from tests.gateway.builders import Fleet, make_report, make_worker
from tests.gateway.routing.builders import make_query, make_scene, told


def scores(name: str, scene: Scene, workers: str) -> list[float]:
    rows = np.array([scene.table.rows[key] for key in workers.split()], np.intp)
    return [round(score, 3) for score in SCORERS[name](scene, rows).tolist()]


def test_prefix_is_the_share_of_the_prompt_that_is_cached() -> None:
    table = Fleet("", "p1 p2 p3").table
    scene = make_scene(table, make_query(table, 1000, cached={"p2": 500, "p3": 1000}))
    assert scores("prefix", scene, "p1 p2 p3") == [0.0, 0.5, 0.999]


def test_what_lies_below_the_device_is_worth_a_little_less() -> None:
    table = Fleet("", "p1 p2").table
    query = make_query(table, 1000, cached={"p1": 500}, cached_below={"p1": 500, "p2": 500})
    assert scores("prefix", make_scene(table, query), "p1 p2") == [0.5, 0.45]


def test_predicted_weighs_waiting_against_what_is_cached() -> None:
    table = Fleet("", "p1 p2 p3").table
    for key in table.rows:
        told(table, key, token_seconds=0.001)
    table.book("p1", Booked(1, 1, 1, 2000, 2.0), 0.0)
    scene = make_scene(table, make_query(table, 1000, cached={"p1": 900}))
    # 2.1 s, 1 s and 1 s.
    assert scores("predicted", scene, "p1 p2 p3") == pytest.approx([0.476, 1.0, 1.0], abs=0.01)


def test_predicted_of_those_that_may_be_chosen_only() -> None:
    table = Fleet("d1 d2", "p1").table
    told(table, "d1", token_seconds=0.01)
    told(table, "d2", token_seconds=0.02)
    told(table, "p1", token_seconds=0.0001)
    assert scores("predicted", make_scene(table), "d1 d2") == [1.0, 0.5]


def test_twice_the_step_time_is_half_the_score() -> None:
    table = Fleet("d1 d2", "p1").table
    told(table, "d1", step_seconds=0.1)
    told(table, "d2", step_seconds=0.2)
    assert scores("step", make_scene(table), "d1 d2") == [1.0, pytest.approx(0.5, abs=0.02)]


def test_more_sequences_make_the_next_step_longer() -> None:
    table = Fleet("d1 d2", "").table
    table.book("d1", Booked(num_legs=16), 0.0)
    high, low = scores("step", make_scene(table), "d2 d1")
    assert high == 1.0
    assert low < 0.9


def test_load_falls_with_open_prompts_and_those_of_others() -> None:
    table = Fleet("", "p1 p2 p3").table
    table.book("p2", Booked(1, 1, 1, 512), 0.0)
    told(table, "p3", report=make_report(num_waiting=3))
    found = scores("load", make_scene(table), "p1 p2 p3")
    assert found == [1.0, pytest.approx(0.5, abs=0.01), 0.25]


def test_headroom_is_what_would_be_left() -> None:
    table = FleetTable()
    for key, size in (("d1", 1000), ("d2", 4000), ("d3", 100)):
        table.put(make_worker(key, can_decode=True, kv_tokens=size), is_usable=True)
    table.book("d2", Booked(num_legs=1, kv_tokens=1000), 0.0)
    scene = make_scene(table, make_query(table, 400, 500))
    assert scores("headroom", scene, "d1 d2 d3") == [0.5, 0.625, 0.0]


def test_a_pair_with_a_slow_link_is_worth_less() -> None:
    table = Fleet("d1 d2", "p1").table
    pairs = PairTable()
    rows = table.rows
    num_bytes = 1000 * table.facts(0).layout.bytes_per_token
    for _ in range(2):
        pairs.observe(rows["p1"], rows["d1"], num_bytes, 0.1, 0.9)
    pairs.observe(rows["p1"], rows["d2"], num_bytes, 0.1, 0.0)
    scene = make_scene(table, pairs=pairs, source="p1", source_seconds=0.1)
    low, high = scores("pair", scene, "d1 d2")
    assert high == 1.0
    assert low < 0.01


def test_without_a_source_all_pairs_are_the_same() -> None:
    assert scores("pair", make_scene(Fleet("d1 d2").table), "d1 d2") == [1.0, 1.0]


def test_a_session_stays_with_its_workers_even_if_one_is_gone() -> None:
    table = Fleet("d1 d2", "p1").table
    scene = make_scene(table, make_query(table, session_workers=("p1", "gone", "d2")))
    assert scores("session", scene, "d1 d2 p1") == [0.0, 1.0, 1.0]


def test_an_adapter_is_where_it_was() -> None:
    table = Fleet("d1 d2", "").table
    scene = make_scene(table, make_query(table, lora="french"), lora_rows=(1,))
    assert scores("lora", scene, "d1 d2") == [0.0, 1.0]
    scene = make_scene(table, make_query(table), lora_rows=(1,))
    assert scores("lora", scene, "d1 d2") == [1.0, 1.0]


def test_the_pace_is_that_next_to_the_fastest() -> None:
    table = Fleet("", "p1 p2").table
    told(table, "p1", token_seconds=0.00025)
    told(table, "p2", token_seconds=0.001)
    assert scores("pace", make_scene(table), "p1 p2") == pytest.approx([1.0, 0.25], abs=0.01)


counts = st.integers(0, 200_000)


@given(
    st.lists(st.tuples(counts, counts, counts, counts), min_size=1, max_size=12),
    st.integers(1, 200_000),
    st.booleans(),
)
def test_every_score_is_from_0_to_1(
    workers: list[tuple[int, int, int, int]], prompt: int, has_source: bool
) -> None:
    table = Fleet(" ".join(f"d{n}" for n in range(len(workers))), "p1").table
    pairs = PairTable()
    for number, (kv_tokens, tokens, cached, work) in enumerate(workers):
        key = f"d{number}"
        told(table, key, work / 10_000_000, work / 1_000_000)
        table.book(key, Booked(work % 9, 0, work % 3, tokens, tokens / 100, kv_tokens), 0.0)
        table.queue(table.rows[key], work % 5, tokens / 7)
        pairs.observe(table.rows["p1"], table.rows[key], tokens, work / 100, cached / 100)
    cached_tokens = {f"d{n}": min(each[2], prompt) for n, each in enumerate(workers)}
    query: Query = make_query(table, prompt, 2 * prompt, cached_tokens, session_workers=("d0",))
    scene = make_scene(table, replace(query, lora="x"), pairs, 1.0, "p1" if has_source else None)
    rows = np.flatnonzero(table.columns.can_decode)
    for name, scorer in SCORERS.items():
        found = scorer(scene, rows)
        assert found.shape == rows.shape, name
        assert np.isfinite(found).all(), name
        assert (found >= 0).all(), name
        assert (found <= 1).all(), name
