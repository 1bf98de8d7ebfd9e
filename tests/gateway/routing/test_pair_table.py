from __future__ import annotations

import numpy as np
import pytest

from gateway.routing.pair_table import HELD_UP_SHARE, RELIEF, PairTable

MB = 1e6


def late(pairs: PairTable, source: int, num_bytes: float, seconds: float = 1.0) -> list[float]:
    """For the first three targets."""
    found: list[float] = pairs.late_seconds(source, np.full(3, num_bytes), seconds).tolist()
    return found


def hold_up(
    pairs: PairTable, source: int, target: int, num_bytes: float, prefill: float, late: float
) -> None:
    """Twice: once is no proof."""
    for _ in range(2):
        pairs.observe(source, target, num_bytes, prefill, late)


def test_nothing_is_late_as_long_as_nothing_is_known() -> None:
    pairs = PairTable()
    assert late(pairs, 5, 1e12) == [0, 0, 0]
    assert pairs.rate(3, 900) == 0


def test_a_throttled_link_is_learned() -> None:
    pairs = PairTable()
    hold_up(pairs, 0, 1, 300 * MB, 1.0, 2.0)
    pairs.observe(0, 2, 300 * MB, 1.0, 0.0)
    assert pairs.rate(0, 1) == pytest.approx(100 * MB)
    assert late(pairs, 0, 300 * MB)[1:] == [pytest.approx(2.0), 0.0]
    # What is sent while a longer prompt is computed is there in time.
    assert late(pairs, 0, 300 * MB, 3.0)[1] == pytest.approx(0, abs=1e-6)


def test_held_up_once_is_no_proof() -> None:
    pairs = PairTable()
    pairs.observe(0, 1, 100 * MB, 0.1, 0.9)
    assert late(pairs, 0, 100 * MB)[1] == 0
    pairs.observe(0, 1, 100 * MB, 0.1, 0.0)
    pairs.observe(0, 1, 100 * MB, 0.1, 0.9)
    assert late(pairs, 0, 100 * MB)[1] == 0
    # Small ones say nothing, in time or late.
    pairs.observe(0, 1, MB / 10, 0.1, 0.0)
    pairs.observe(0, 1, MB / 10, 0.1, 5.0)
    pairs.observe(0, 1, 100 * MB, 0.1, 0.7)
    assert pairs.rate(0, 1) == pytest.approx(125 * MB)


def test_a_link_is_one_way() -> None:
    pairs = PairTable()
    hold_up(pairs, 0, 1, 300 * MB, 1.0, 2.0)
    assert pairs.rate(1, 0) == 0


def test_a_link_that_was_in_time_limits_no_smaller_prompt_and_no_larger() -> None:
    pairs = PairTable()
    pairs.observe(0, 1, 1 * MB, 10.0, 0.0)
    assert late(pairs, 0, 1000 * MB, 0.01)[1] == 0


def test_an_unknown_pair_is_like_the_middle_one() -> None:
    pairs = PairTable()
    for target, seconds in ((3, 1.0), (4, 2.0), (5, 4.0)):
        hold_up(pairs, 0, target, 100 * MB, 1e-6, seconds)
    assert late(pairs, 1, 100 * MB, 0.0) == pytest.approx([2.0, 2.0, 2.0], rel=0.01)


def test_a_link_that_recovers_is_believed_in_again() -> None:
    pairs = PairTable()
    hold_up(pairs, 0, 1, 100 * MB, 1.0, 9.0)
    before = pairs.rate(0, 1)
    pairs.observe(0, 1, 100 * MB, 9.5, 0.0)
    assert pairs.rate(0, 1) == before, "such a long prefill hides it"
    pairs.observe(0, 1, 100 * MB, 8.0, 0.0)
    assert pairs.rate(0, 1) == pytest.approx(max(RELIEF * before, 100 * MB / 8.0))
    for _ in range(20):
        pairs.observe(0, 1, 100 * MB, 1.0, 0.0)
    assert late(pairs, 0, 100 * MB)[1] <= HELD_UP_SHARE


def test_small_transfers_in_time_say_nothing_of_a_slow_link() -> None:
    pairs = PairTable()
    hold_up(pairs, 0, 1, 100 * MB, 0.1, 0.9)
    for target in (1, 2):
        pairs.observe(0, target, MB / 10, 0.001, 0.001)
    assert pairs.rate(0, 1) == pytest.approx(100 * MB)
    assert pairs.rate(0, 2) == 0
    assert late(pairs, 0, 100 * MB, 0.0)[1:] == pytest.approx([1.0, 1.0])


def test_one_slow_transfer_among_fast_ones_counts_for_a_part() -> None:
    pairs = PairTable()
    for _ in range(10):
        pairs.observe(0, 1, 100 * MB, 0.1, 0.9)
    pairs.observe(0, 1, 100 * MB, 0.1, 99.9)
    assert pairs.rate(0, 1) > 50 * MB


@pytest.mark.parametrize(("num_bytes", "seconds"), [(0, 1.0), (1, 0.0), (-1, 1.0)])
def test_what_cannot_be_measured_is_not_learned(num_bytes: float, seconds: float) -> None:
    pairs = PairTable()
    pairs.observe(0, 1, num_bytes, seconds, 1.0)
    assert pairs.rate(0, 1) == 0


def test_a_row_that_another_worker_has_is_forgotten_both_ways() -> None:
    pairs = PairTable()
    for source, target in ((0, 1), (1, 2), (2, 0)):
        hold_up(pairs, source, target, MB, 0.1, 1.0)
    pairs.forget(1)
    pairs.forget(5000)
    assert [pairs.rate(0, 1), pairs.rate(1, 2)] == [0, 0]
    assert pairs.rate(2, 0) > 0


def test_it_keeps_what_it_knows_when_it_grows() -> None:
    pairs = PairTable()
    hold_up(pairs, 0, 1, MB, 0.1, 0.9)
    hold_up(pairs, 500, 700, MB, 0.1, 0.9)
    assert pairs.rate(0, 1) == pairs.rate(500, 700) == pytest.approx(MB)
