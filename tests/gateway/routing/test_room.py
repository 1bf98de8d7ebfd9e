from __future__ import annotations

import pytest

from gateway.routing.booked import Booked
from gateway.routing.fleet_table import FleetTable
from gateway.routing.room import AHEAD_SECONDS, MAX_BESIDE, Room
from tests.gateway.builders import make_worker

STEP = 512


def room(booked: Booked, now: float = 0.0) -> Room:
    table = FleetTable()
    table.put(make_worker("p1", step_tokens=STEP), is_usable=True)
    table.book("p1", booked, 0.0)
    return Room.of(table, table.rows["p1"], now)


def test_an_idle_worker_takes_anything() -> None:
    assert room(Booked()).takes(1_000_000)


def test_a_busy_one_takes_anything_just_before_it_is_done() -> None:
    busy = Booked(num_prefills=1, num_long=1, prefill_seconds=2.0)
    assert room(busy).takes(STEP)
    assert not room(busy).takes(STEP + 1)
    assert room(busy, 2.0 - AHEAD_SECONDS / 2).takes(STEP + 1)


@pytest.mark.parametrize(
    ("num_short", "short_tokens", "taken"),
    [(1, 500, STEP), (MAX_BESIDE - 1, 500, STEP), (MAX_BESIDE, 500, 12), (MAX_BESIDE, 600, 0)],
)
def test_short_ones_share_a_step_or_are_few(num_short: int, short_tokens: int, taken: int) -> None:
    beside = Booked(
        num_prefills=num_short + 1, num_long=1, short_tokens=short_tokens, prefill_seconds=2.0
    )
    found = room(beside)
    assert [found.takes(taken), found.takes(taken + 1)] == [taken > 0, False]
    assert found.is_none == (taken == 0)


def test_a_long_one_goes_beside_the_short_ones_of_one_step() -> None:
    def takes_long(short_tokens: int) -> bool:
        short = Booked(num_prefills=3, short_tokens=short_tokens, prefill_seconds=2.0)
        return room(short).takes(STEP + 1)

    assert takes_long(STEP)
    assert not takes_long(STEP + 1)
