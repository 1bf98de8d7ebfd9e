from __future__ import annotations

import pytest

from worker.pieces import LEAST_TOKENS, Pieces


def learned(goal_seconds: float, token_seconds: float = 0.002) -> Pieces:
    """Of an engine whose step takes 40 ms, and 2 ms more for each token of a prompt."""
    pieces = Pieces(goal_seconds)
    for number in range(100):
        pieces.note(0.04, 0, 4)
        pieces.note(0.04 + token_seconds * (50 + number), 50 + number, 4)
        pieces.note(0.5, 500, 0)
    return pieces


def test_nothing_is_cut_before_anything_is_known_or_without_a_goal() -> None:
    assert Pieces(0.2).tokens is None
    assert learned(0.0).tokens is None


@pytest.mark.parametrize(("goal_seconds", "tokens"), [(0.2, 80), (0.1, 30), (0.04, LEAST_TOKENS)])
def test_a_piece_fills_what_the_goal_leaves(goal_seconds: float, tokens: int) -> None:
    assert learned(goal_seconds).tokens == pytest.approx(tokens, abs=1)


def test_an_engine_that_gets_slower_takes_smaller_pieces() -> None:
    pieces = learned(0.2)
    for _ in range(100):
        pieces.note(0.04 + 0.004 * 80, 80, 4)
    assert pieces.tokens == pytest.approx(40, abs=1)


def test_prompts_that_cost_nothing_beside_answers_are_not_cut() -> None:
    assert learned(0.2, token_seconds=0.0).tokens is None
