from __future__ import annotations

import pytest

from gateway.routing.gain import LEAST_CONTROLS, Gain
from gateway.routing.way import Way

REMOTE, LOCAL = Way.REMOTE, Way.LOCAL


def learn(gain: Gain, chosen: Way, way: Way, seconds: float, number: int, size: int = 10) -> None:
    for _ in range(number):
        gain.learn(size, chosen, way, seconds)


def test_it_is_known_once_enough_took_the_other_way() -> None:
    gain = Gain()
    learn(gain, LOCAL, LOCAL, 2.0, 50)
    learn(gain, LOCAL, REMOTE, 1.5, LEAST_CONTROLS - 1)
    assert gain.seconds() is None
    learn(gain, LOCAL, REMOTE, 1.5, 1)
    assert gain.seconds() == pytest.approx(0.5)


def test_requests_are_compared_with_those_that_the_same_way_was_chosen_for() -> None:
    gain = Gain()
    # Handed over since the fleet is busy: all of these are slow, whichever way they go.
    learn(gain, REMOTE, REMOTE, 9.0, 57)
    learn(gain, REMOTE, LOCAL, 10.0, 3)
    learn(gain, LOCAL, LOCAL, 1.0, 57)
    learn(gain, LOCAL, REMOTE, 2.0, 3)
    assert gain.seconds() == pytest.approx(0.0, abs=1e-9)


def test_what_went_one_way_only_tells_nothing() -> None:
    gain = Gain()
    learn(gain, REMOTE, REMOTE, 1.0, 50, size=12)
    assert gain.seconds() is None
    learn(gain, LOCAL, LOCAL, 1.0, 7)
    learn(gain, LOCAL, REMOTE, 4.0, 3)
    assert gain.seconds() == pytest.approx(-3.0)
