from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.output_lengths import ENOUGH, FIRST_GUESS, OutputLengths


def lengths_of(*lengths: int) -> OutputLengths:
    found = OutputLengths()
    for length in lengths:
        found.observe(length)
    return found


def test_until_enough_have_ended_it_is_a_guess() -> None:
    assert lengths_of().expected == FIRST_GUESS
    assert lengths_of(*[5] * (int(ENOUGH) - 1)).expected == FIRST_GUESS


def test_five_of_a_hundred_may_be_longer() -> None:
    dice = random.Random(1)
    lengths = [dice.randint(1, 1000) for _ in range(600)]
    expected = lengths_of(*lengths).expected
    assert sum(length > expected for length in lengths[-200:]) <= 20
    assert expected < 2000


def test_a_few_long_ones_do_not_count() -> None:
    assert lengths_of(*([100] * 99 + [100_000])).expected < 200


def test_it_forgets() -> None:
    lengths = lengths_of(*[10_000] * 500)
    assert lengths.expected > 10_000
    for _ in range(1000):
        lengths.observe(10)
    assert lengths.expected < 20


@given(st.integers(0, 1 << 24))
def test_answers_of_one_length_fit(length: int) -> None:
    expected = lengths_of(*[length] * 60).expected
    assert expected >= min(length, 1 << 17)
    assert expected <= max(2, 1.7 * length + 1)


@pytest.mark.parametrize("length", [0, 1])
def test_an_answer_without_tokens_is_short(length: int) -> None:
    assert lengths_of(*[length] * 60).expected == 2
