from __future__ import annotations

import numpy as np
import pytest

from gateway.routing.booked import Booked
from gateway.routing.fleet_table import FleetTable
from gateway.routing.policy import ProfilePolicy
from gateway.routing.profile import MAX_EXPLAINED, Profile
from tests.gateway.builders import Fleet
from tests.gateway.routing.builders import make_query, make_scene


def loaded(*tokens: int) -> FleetTable:
    """d0, d1 and so on with so many tokens to compute."""
    table = Fleet(" ".join(f"d{number}" for number in range(len(tokens))), "").table
    for number, weight in enumerate(tokens):
        table.book(f"d{number}", Booked(1, 1, 1, weight), 0.0)
    return table


def test_nobody_is_chosen_of_none() -> None:
    table = loaded(1, 2)
    profile = Profile(ProfilePolicy())
    assert profile.choose(make_scene(table), np.zeros(8, bool)) is None
    scene = make_scene(table, make_query(table, 1 << 30))
    assert profile.choose(scene, table.columns.can_decode) is None


def test_filters_all_have_a_say_and_leave_the_callers_rows_alone() -> None:
    table = loaded(1, 2)
    table.book("d0", Booked(num_legs=1, kv_tokens=1 << 20), 0.0)
    may = table.columns.can_decode.copy()
    profile = Profile(ProfilePolicy(filters=("capacity", "credit")))
    choice = profile.choose(make_scene(table), may)
    assert choice is not None
    assert (choice.row, choice.num_candidates) == (1, 1)
    assert may.sum() == 2


def test_weights_decide_between_scorers() -> None:
    table = loaded(5000, 0)
    scene = make_scene(table, make_query(table, cached={"d0": 900}))
    for load, prefix, row in ((1.0, 0.1, 1), (0.1, 1.0, 0)):
        profile = Profile(ProfilePolicy(scorers={"load": load, "prefix": prefix}))
        choice = profile.choose(scene, table.columns.can_decode)
        assert choice is not None
        assert choice.row == row


def test_the_best_candidates_are_explained_with_what_each_scorer_gave() -> None:
    table = loaded(*range(0, 12_000, 1000))
    profile = Profile(ProfilePolicy(scorers={"load": 2.0, "lora": 1.0}))
    choice = profile.choose(make_scene(table), table.columns.can_decode)
    assert choice is not None
    assert choice.num_candidates == 12
    assert choice.rows == tuple(range(MAX_EXPLAINED))
    assert list(choice.totals) == sorted(choice.totals, reverse=True)
    sums = map(sum, zip(*choice.by_scorer.values(), strict=True))
    assert list(sums) == pytest.approx(list(choice.totals))


def test_who_was_taken_is_explained_though_others_were_better() -> None:
    table = loaded(*range(0, 12_000, 1000))
    profile = Profile(ProfilePolicy(scorers={"load": 1.0}, picker="round-robin"))
    rows = []
    for _ in range(12):
        choice = profile.choose(make_scene(table), table.columns.can_decode)
        assert choice is not None
        assert choice.row in choice.rows
        assert len(choice.rows) == len(choice.totals) == len(choice.by_scorer["load"])
        rows.append(choice.row)
    assert rows == list(range(12))
