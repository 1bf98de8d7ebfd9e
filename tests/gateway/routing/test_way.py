from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.way import EXCESS, LEAST_SECONDS, Forecast, Slo, Way

SLO = Slo(ttft_seconds=2.0, itl_seconds=0.2)
times = st.floats(0, 1e4)


def cost(ttft: float, itl: float, gap: float = 0.0, excess: float = EXCESS) -> float:
    return SLO.cost(ttft, Forecast(ttft, itl, gap), excess)


def test_the_other_of_two_ways() -> None:
    assert (Way.REMOTE.other, Way.LOCAL.other) == (Way.LOCAL, Way.REMOTE)


def test_both_times_count_alike() -> None:
    assert cost(2.0, 0.2) == pytest.approx(1)
    assert cost(1.0, 0.2) == pytest.approx(cost(2.0, 0.1)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("ttft", "itl", "gap"),
    [
        pytest.param(2.2, 0.02, 0.0, id="the first token"),
        pytest.param(0.2, 0.22, 0.0, id="the time between two"),
        pytest.param(0.2, 0.02, 0.22, id="a gap in running streams"),
    ],
)
def test_a_tenth_beyond_a_goal_makes_a_request_cost_eleven_times_as_much(
    ttft: float, itl: float, gap: float
) -> None:
    met = cost(ttft, itl, gap, excess=0)
    assert cost(ttft, itl, gap) == pytest.approx(met * (1 + 0.1 * EXCESS))


@given(times, times, times)
def test_a_cost_can_be_divided_by(ttft: float, itl: float, gap: float) -> None:
    assert cost(ttft, itl, gap) >= cost(LEAST_SECONDS, LEAST_SECONDS) > 0
