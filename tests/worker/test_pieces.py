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


def test_costs_that_fade_away_end_in_no_limit() -> None:
    pieces = learned(0.2)
    for _ in range(10_000):
        pieces.note(0.04, 10, 4)
        assert pieces.tokens is None or pieces.tokens >= LEAST_TOKENS
    assert pieces.tokens is None


@pytest.mark.parametrize(
    ("most", "longest", "num_answers", "num_prompts", "limits"),
    [
        pytest.param(512, 400, 0, 3, (512, 400), id="no answers run"),
        pytest.param(512, 400, 4, 0, (84, 80), id="answers alone"),
        pytest.param(512, 400, 4, 1, (84, 80), id="one prompt"),
        pytest.param(512, 400, 4, 3, (84, 26), id="three prompts share it"),
        pytest.param(512, 400, 4, 200, (84, 1), id="each gets something"),
        pytest.param(60, 50, 4, 1, (60, 50), id="a step takes no more"),
    ],
)
def test_what_the_next_step_takes(
    most: int, longest: int, num_answers: int, num_prompts: int, limits: tuple[int, int]
) -> None:
    pieces = Pieces(0.2)
    pieces.note(0.04, 0, 4)
    pieces.note(0.04 + 0.002 * 100, 100, 4)
    assert pieces.limits(most, longest, num_answers, num_prompts) == limits


def test_prompts_that_cost_nothing_beside_answers_are_not_cut() -> None:
    assert learned(0.2, token_seconds=0.0).tokens is None
