"""The prompts of a soak: of all lengths, at borders, and cached nowhere."""

from __future__ import annotations

from tests.suites.soak_prompts import BORDERS, MAX_TOKENS, MIN_TOKENS, pool, requests


def test_the_pool_is_the_same_for_the_same_seed() -> None:
    assert pool(1, 30) == pool(1, 30)
    assert pool(1, 30) != pool(2, 30)


def test_the_pool_has_all_borders_and_lengths_between_the_bounds() -> None:
    lengths = [len(prompt.ids) for prompt in pool(1, 60)]
    assert set(BORDERS) <= set(lengths)
    assert all(MIN_TOKENS <= length <= MAX_TOKENS for length in lengths)
    assert len(set(lengths)) > 30


def test_no_two_requests_share_a_salt() -> None:
    asked = requests(1, pool(1, 10), 200)
    assert len({prompt.salt for prompt in asked}) == 200
    assert len({prompt.name for prompt in asked}) == 10
