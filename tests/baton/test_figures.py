from __future__ import annotations

import pytest

from baton.figures import count, difference, percent, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0, "0 µs"),
        (0.000_085, "85 µs"),
        (0.000_999_7, "1 ms"),
        (0.012_53, "12.5 ms"),
        (0.3401, "340 ms"),
        (0.9999, "1 s"),
        (2.4, "2.4 s"),
        (1234.5, "1,234 s"),
        (-0.05, "-50 ms"),
    ],
)
def test_spans_are_told_in_three_digits(seconds: float | None, words: str) -> None:
    assert span(seconds) == words


def test_a_difference_has_a_sign() -> None:
    assert [difference(x) for x in (0.012, -0.012, None)] == ["+12 ms", "-12 ms", "-"]


def test_counts_and_shares() -> None:
    assert [count(x) for x in (0, 12345, 1e6, None)] == ["0", "12,345", "1,000,000", "-"]
    assert [percent(x) for x in (0.4126, 1, None)] == ["41.3%", "100.0%", "-"]
