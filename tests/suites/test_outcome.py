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
