from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gateway.routing.booked import Booked
from gateway.routing.fleet_table import FleetTable
from gateway.routing.pickers import PICKERS, Best, Lottery, Picker, RoundRobin, Rows
from tests.gateway.builders import Fleet


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.intp)


def take(picker: Picker, table: FleetTable, candidates: Rows, *scores: float) -> int:
    return picker.pick(candidates, np.array(scores), table)


def test_the_best_is_taken() -> None:
    table = Fleet("d1 d2 d3", "").table
    assert take(Best(), table, rows(0, 2), 0.4, 0.6) == 2


def test_of_equals_the_one_with_the_least_to_do() -> None:
    table = Fleet("d1 d2 d3", "").table
    table.book("d1", Booked(num_legs=3), 0.0)
    table.book("d3", Booked(num_legs=1), 0.0)
    assert take(Best(), table, rows(0, 2), 0.5, 0.5) == 2
    table.book("d3", Booked(num_legs=1, num_prefills=1, prefill_tokens=100), 0.0)
    assert take(Best(), table, rows(0, 2), 0.5, 0.5) == 0


def test_scores_that_hardly_differ_are_equal() -> None:
    table = Fleet("d1 d2", "").table
    table.book("d1", Booked(num_legs=1), 0.0)
    assert take(Best(), table, rows(0, 1), 0.5 + 1e-9, 0.5) == 1


def test_one_after_the_other_whatever_their_scores() -> None:
    table = Fleet("d1 d2 d3", "").table
    picker = RoundRobin()
    taken = [take(picker, table, rows(0, 1, 2), 1.0, 0.0, 0.0) for _ in range(6)]
    assert taken == [0, 1, 2, 0, 1, 2]


def test_a_lottery_is_won_in_proportion_to_the_square_of_the_score() -> None:
    table = Fleet("d1 d2 d3", "").table
    picker = Lottery(seed=1)
    won = Counter(take(picker, table, rows(0, 1, 2), 1.0, 0.5, 0.0) for _ in range(5000))
    assert won[0] / won[1] == pytest.approx(4, rel=0.2)
    assert won[2] == 0


def test_a_lottery_of_those_without_any_score_is_fair() -> None:
    table = Fleet("d1 d2", "").table
    picker = Lottery(seed=1)
    won = Counter(take(picker, table, rows(0, 1), 0.0, 0.0) for _ in range(2000))
    assert won[0] == pytest.approx(1000, rel=0.15)


@pytest.mark.parametrize("name", PICKERS)
def test_the_only_one_is_always_taken(name: str) -> None:
    table = Fleet("d1 d2 d3", "").table
    picker = PICKERS[name]()
    assert {take(picker, table, rows(1), 0.0) for _ in range(5)} == {1}


def test_pickers_share_no_state() -> None:
    table = Fleet("d1 d2", "").table
    one, other = PICKERS["round-robin"](), PICKERS["round-robin"]()
    assert take(one, table, rows(0, 1), 0.0, 0.0) == take(other, table, rows(0, 1), 0.0, 0.0)
