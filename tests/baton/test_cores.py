from __future__ import annotations

import os
from pathlib import Path

import pytest

from baton.cores import assign, available_cores, describe


@pytest.mark.parametrize(
    ("num_cores", "num_workers", "workers", "rest"),
    [
        pytest.param(2, 2, ((0,), (1,)), (0, 1), id="one-each-and-the-rest-shares"),
        pytest.param(3, 2, ((0,), (1,)), (2,), id="one-left-over"),
        pytest.param(8, 2, ((0, 1, 2), (3, 4, 5)), (6, 7), id="equal-shares"),
        pytest.param(4, 1, ((0, 1, 2),), (3,), id="one-worker"),
        pytest.param(1, 1, ((0,),), (0,), id="one-core"),
    ],
)
def test_workers_have_equal_shares_of_their_own(
    num_cores: int, num_workers: int, workers: tuple[tuple[int, ...], ...], rest: tuple[int, ...]
) -> None:
    assignment = assign(range(num_cores), num_workers)
    assert (assignment.workers, assignment.rest) == (workers, rest)
    assert not assignment.is_shared


def test_more_workers_than_cores_take_turns_and_say_so() -> None:
    assignment = assign((4, 5), 3)
    assert assignment.workers == ((4,), (5,), (4,))
    assert assignment.rest == (4, 5)
    assert assignment.is_shared


@pytest.mark.parametrize("num_workers", range(1, 12))
@pytest.mark.parametrize("num_cores", range(1, 20))
def test_no_core_belongs_to_two_unless_it_is_said(num_cores: int, num_workers: int) -> None:
    assignment = assign(range(num_cores), num_workers)
    given = [core for cores in assignment.workers for core in cores]
    assert len(assignment.workers) == num_workers
    assert all(assignment.workers)
    assert assignment.is_shared == (len(given) != len(set(given)))


def test_siblings_of_one_physical_core_stand_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for core in range(4):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "core_id").write_text(f"{core % 2}\n")
        (folder / "physical_package_id").write_text("0\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert available_cores(tmp_path) == (0, 2, 1, 3)


def test_cores_of_an_unknown_topology_stand_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 1})
    assert available_cores(tmp_path) == (1, 3)


@pytest.mark.parametrize(
    ("cores", "words"),
    [((3,), "core 3"), ((0, 1, 2), "cores 0-2"), ((0, 4, 2), "cores 0,2,4")],
)
def test_cores_are_told_briefly(cores: tuple[int, ...], words: str) -> None:
    assert describe(cores) == words
