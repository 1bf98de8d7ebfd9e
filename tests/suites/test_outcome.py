"""What counts as a right answer, and what as a clear error."""

from __future__ import annotations

import pytest

from tests.suites.outcome import Outcome, Verdict, message_of
from tests.system.prompts import Prompt

PROMPT = Prompt("a", (5, 6))
RIGHT = (1, 2, 3)


@pytest.mark.parametrize(
    ("ids", "error", "is_whole", "verdict"),
    [
        pytest.param(RIGHT, "", True, Verdict.RIGHT, id="all-of-it"),
        pytest.param((1, 2), "", True, Verdict.BROKEN, id="too-short"),
        pytest.param(RIGHT, "", False, Verdict.BROKEN, id="without-an-end"),
        pytest.param((), "", False, Verdict.BROKEN, id="nothing"),
        pytest.param((), "the worker is gone", False, Verdict.ERROR, id="error-at-once"),
        pytest.param((1, 2), "the worker is gone", False, Verdict.ERROR, id="error-later"),
        pytest.param((1, 9), "the worker is gone", False, Verdict.WRONG, id="wrong-then-error"),
        pytest.param((1, 2, 9), "", True, Verdict.WRONG, id="wrong-at-the-end"),
        pytest.param((1, 2, 3, 4), "", True, Verdict.WRONG, id="too-long"),
    ],
)
def test_verdicts(ids: tuple[int, ...], error: str, is_whole: bool, verdict: Verdict) -> None:
    assert Outcome(PROMPT, ids, error, is_whole, 1.0).judge(RIGHT) is verdict


def test_an_outcome_shows_no_prompt() -> None:
    shown = str(Outcome(PROMPT, (1,), "gone", False, 1.0))
    assert shown == "a of 2 tokens: 1 tokens in 1.0 s, then 'gone'"


@pytest.mark.parametrize(
    ("event", "message"),
    [({"error": {"message": "no"}}, "no"), ({"error": None}, ""), ({"choices": []}, "")],
)
def test_what_an_event_says_of_an_error(event: dict[str, object], message: str) -> None:
    assert message_of(event) == message


@pytest.mark.parametrize(
    ("ids", "error", "seconds", "allows_errors", "problem"),
    [
        pytest.param(RIGHT, "", 1.0, False, None, id="right"),
        pytest.param(RIGHT, "", 9.0, False, "too late: ", id="right-too-late"),
        pytest.param((1, 2), "lost", 1.0, False, "error: ", id="error"),
        pytest.param((1, 2), "lost", 1.0, True, None, id="error-that-may-be"),
        pytest.param((1, 2), "lost", 9.0, True, "too late: ", id="error-too-late"),
        pytest.param((1, 9), "lost", 1.0, True, "wrong tokens: ", id="wrong-before-an-error"),
        pytest.param((1, 2), "", 1.0, True, "neither ", id="cut-off"),
    ],
)
def test_an_error_is_a_problem_unless_the_fault_allows_it(
    ids: tuple[int, ...], error: str, seconds: float, allows_errors: bool, problem: str | None
) -> None:
    outcome = Outcome(PROMPT, ids, error, is_whole=True, seconds=seconds)
    found = outcome.problem(RIGHT, 8.0, allows_errors=allows_errors)
    assert found is None if problem is None else found is not None and found.startswith(problem)
