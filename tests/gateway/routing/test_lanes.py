from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.lanes import Lanes
from tests.gateway.routing.builders import make_waiting

Told = dict[str, tuple[int, float]]


def make_lanes() -> tuple[Lanes, Told]:
    """With what was told of each worker last."""
    told: Told = {}

    def note(worker: str, number: int, seconds: float) -> None:
        told[worker] = number, seconds

    return Lanes(note), told


def ids(lanes: Lanes, worker: str) -> list[str]:
    return [item.request_id for item in lanes.lane(worker)]


def test_the_least_rank_goes_first() -> None:
    lanes, _ = make_lanes()
    for name, rank in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        lanes.put(make_waiting(name, rank=rank))
    assert ids(lanes, "p1") == ["a", "b", "c"]
    lanes.check_integrity()


def test_equals_go_in_the_order_in_which_they_came() -> None:
    lanes, _ = make_lanes()
    for name in "zya":
        lanes.put(make_waiting(name))
    assert ids(lanes, "p1") == ["z", "y", "a"]


def test_nobody_waits_twice() -> None:
    lanes, _ = make_lanes()
    lanes.put(make_waiting("a", "p1"))
    with pytest.raises(ValueError, match="a waits already"):
        lanes.put(make_waiting("a", "p2"))
    lanes.check_integrity()


def test_who_does_not_wait_cannot_be_taken() -> None:
    lanes, told = make_lanes()
    assert lanes.take("a") is None
    assert told == {}


def test_it_tells_how_many_wait_and_how_long_that_takes() -> None:
    lanes, told = make_lanes()
    lanes.put(make_waiting("a", "p1", seconds=2))
    lanes.put(make_waiting("b", "p1", seconds=3))
    lanes.put(make_waiting("c", "p2", seconds=4))
    assert told == {"p1": (2, 5.0), "p2": (1, 4.0)}
    assert lanes.longest() == "p1"
    assert repr(lanes) == "<Lanes 3 waiting for 2 workers>"
    lanes.take("b")
    assert lanes.longest() == "p2"
    lanes.take("a")
    assert told["p1"] == (0, 0.0)
    assert lanes.workers == ("p2",)
    assert ids(lanes, "p1") == []


def test_of_nobody_none_is_the_longest() -> None:
    lanes, _ = make_lanes()
    assert lanes.longest() is None
    assert len(lanes) == 0


def test_they_may_be_taken_while_all_are_looked_at() -> None:
    lanes, _ = make_lanes()
    for name in "abc":
        lanes.put(make_waiting(name))
    for item in lanes:
        lanes.take(item.request_id)
    assert len(lanes) == 0


names = st.sampled_from("abcdefgh")
ranks = st.floats(-10, 10)
moves = st.tuples(names, st.sampled_from(("p1", "p2", "p3")), ranks, st.floats(0, 5), st.booleans())


@given(st.lists(moves, max_size=60))
def test_whatever_comes_and_goes_all_are_in_order_and_counted(
    history: list[tuple[str, str, float, float, bool]],
) -> None:
    lanes, told = make_lanes()
    waiting: dict[str, tuple[str, float, float]] = {}
    for name, worker, rank, seconds, puts in history:
        if puts and name not in waiting:
            lanes.put(make_waiting(name, worker, seconds, rank))
            waiting[name] = worker, rank, seconds
        else:
            taken = lanes.take(name)
            known = waiting.pop(name, None)
            assert known == (taken and (taken.worker, taken.rank, taken.seconds))
        lanes.check_integrity()
        assert {item.request_id for item in lanes} == waiting.keys()
        assert all(each in lanes for each in waiting)
    of = sums_of(waiting)
    for worker, (number, total) in told.items():
        assert number == of(worker)[0]
        assert total == pytest.approx(of(worker)[1], abs=1e-9)


def sums_of(waiting: dict[str, tuple[str, float, float]]) -> Callable[[str], tuple[int, float]]:
    def of(worker: str) -> tuple[int, float]:
        lane = [seconds for there, _, seconds in waiting.values() if there == worker]
        return len(lane), sum(lane)

    return of
