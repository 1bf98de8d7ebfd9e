from __future__ import annotations

import pytest

from loadtest.decision import Outcome, better_of, by_way, is_close, line_of
from tests.baton.small_gateway import small_gateway

ALWAYS = Outcome(ttft=150.0, itl=5.0, num_failed=0, handed_share=1.0)
NEVER = Outcome(ttft=140.0, itl=9.0, num_failed=1, handed_share=0.0)


def outcomes(ttft: float, itl: float) -> dict[str, Outcome]:
    return {"always": ALWAYS, "never": NEVER, "auto": Outcome(ttft, itl, 0, 0.5)}


@pytest.mark.parametrize(
    ("ttft", "itl", "holds"),
    [
        pytest.param(157.0, 5.2, True, id="a little worse"),
        pytest.param(160.0, 5.0, False, id="later"),
        pytest.param(150.0, 5.3, False, id="slower"),
        pytest.param(10.0, 5.3, False, id="sooner, but slower"),
    ],
)
def test_auto_is_as_good_as_the_better_one(ttft: float, itl: float, holds: bool) -> None:
    assert better_of(outcomes(ttft, itl)) == "always"
    assert is_close(outcomes(ttft, itl)) is holds


def test_a_line_of_the_table() -> None:
    assert line_of("both", outcomes(135.0, 5.5)) == (
        "| both | 150 / 5.0 | 140 / 9.0 | 135 / 5.5 | 50 % | always | 0.90 / 1.10 | 1 |\n"
    )


def test_prompts_are_counted_by_who_computed_them() -> None:
    sizes = {
        "256": {"remote": {"num_requests": 2}, "local": {"num_requests": 0}},
        "512": {"remote": {"num_requests": 3}, "local": {"num_requests": 4}},
    }
    with small_gateway(decision={"by_uncached_tokens": sizes}) as gateway:
        assert by_way(gateway.url) == {"remote": 5, "local": 4}
