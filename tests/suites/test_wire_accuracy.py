"""How far two lists of the best logits are apart."""

from __future__ import annotations

import pytest

from tests.engines.host import Generated
from tests.suites.wire_accuracy import Comparison, max_difference


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        pytest.param({1: 9.0, 2: 8.0}, {1: 9.0, 2: 8.0}, 0.0, id="equal"),
        pytest.param({1: 9.0, 2: 8.0}, {1: 8.5, 2: 8.25}, 0.5, id="same-tokens"),
        pytest.param({1: 9.0, 2: 8.0}, {1: 9.0, 3: 5.0}, 3.0, id="fallen-out-of-theirs"),
        pytest.param({1: 9.0, 3: 5.0}, {1: 9.0, 2: 8.0}, 3.0, id="fallen-out-of-ours"),
        pytest.param({1: 9.0, 2: 8.0}, {3: 7.0, 4: 6.0}, 3.0, id="nothing-in-both"),
        pytest.param({1: 5.0}, {2: 7.0}, 2.0, id="below-the-others-last"),
    ],
)
def test_a_token_that_only_one_side_has_counts_from_the_others_last(
    ours: dict[int, float], theirs: dict[int, float], difference: float
) -> None:
    assert max_difference(ours, theirs) == difference
    assert max_difference(theirs, ours) == difference


def test_a_comparison_counts_places_and_looks_at_the_first_tokens_logits() -> None:
    moved = Generated("a", (1, 2, 3), ({1: 9.0}, {2: 9.0}, {3: 9.0}))
    alone = Generated("b", (1, 5, 3), ({1: 8.0}, {5: 90.0}, {3: 9.0}))
    assert Comparison.of(moved, alone) == Comparison(2, 3, True, 1.0)
