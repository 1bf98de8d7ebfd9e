from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.decider import (
    CONTROL_COST,
    GUESSED_OUTPUTS,
    KNOWN,
    LEAST_CONTROL,
    LEAST_SHARE,
    MOST_LATE,
    MUCH,
    WORTH,
    Decider,
    Mode,
    Verdict,
    size_of,
)
from gateway.routing.gain import LEAST_CONTROLS
from gateway.routing.way import Forecast, Slo, Way

REMOTE, LOCAL = Way.REMOTE, Way.LOCAL


def forecasts(remote: float | None = 1.0, local: float | None = 2.0) -> dict[Way, Forecast]:
    """Times to the first token; None: that way is none."""
    both = {REMOTE: remote, LOCAL: local}
    return {way: Forecast(ttft, 0.02) for way, ttft in both.items() if ttft is not None}


def make_decider(mode: Mode = Mode.AUTO, control_share: float = 0.0) -> Decider:
    return Decider(mode, Slo(), control_share, seed=7)


@pytest.mark.parametrize(
    ("mode", "remote", "local", "way"),
    [
        pytest.param(Mode.ALWAYS, 9.0, 1.0, REMOTE, id="always, though it is slower"),
        pytest.param(Mode.NEVER, 1.0, 9.0, LOCAL, id="never, though it is faster"),
        pytest.param(Mode.AUTO, 9.0, 1.0, LOCAL, id="auto: here"),
        pytest.param(Mode.AUTO, 1.0, 9.0, REMOTE, id="auto: there"),
        pytest.param(Mode.ALWAYS, None, 9.0, LOCAL, id="always, but nobody to hand over to"),
        pytest.param(Mode.NEVER, 1.0, None, REMOTE, id="never, but nobody here"),
        pytest.param(Mode.AUTO, None, 9.0, LOCAL, id="auto, but one way only"),
    ],
)
def test_the_way_by_mode(mode: Mode, remote: float | None, local: float | None, way: Way) -> None:
    verdict = make_decider(mode, 0.5).decide(1000, forecasts(remote, local))
    if mode is not Mode.AUTO or remote is None:
        assert (verdict.way, verdict.is_control) == (way, False)
    assert make_decider(mode).decide(1000, forecasts(remote, local)).way is way


def test_a_gap_in_running_streams_outweighs_a_little_time() -> None:
    ways = {REMOTE: Forecast(1.0, 0.02, 0.02), LOCAL: Forecast(0.9, 0.02, 2.0)}
    assert make_decider().decide(1000, ways).way is REMOTE


@pytest.mark.parametrize(
    ("itl", "gap", "way"),
    [
        pytest.param(0.021, 0.05, LOCAL, id="hardly felt"),
        pytest.param(0.04, 0.05, REMOTE, id="many streams lose a little"),
        pytest.param(0.021, 0.25, REMOTE, id="a gap that is too long"),
    ],
)
def test_what_running_streams_lose_is_weighed(itl: float, gap: float, way: Way) -> None:
    ways = {REMOTE: Forecast(0.1, 0.02, 0.02), LOCAL: Forecast(0.07, itl, gap)}
    assert make_decider().decide(1000, ways).way is way


def settle(decider: Decider, remote: float, local: float, number: int = 100) -> Way | None:
    """The usual way after so many requests."""
    for _ in range(number):
        decider.decide(1000, forecasts(remote, local))
    return decider.usual_way(1000)


def test_hand_off_becomes_usual_where_it_is_clearly_better_and_stays_as_long_as_it_is() -> None:
    decider = make_decider()
    assert decider.usual_way(1000) is None
    assert settle(decider, 1.0, 0.5 * (1 + WORTH)) is LOCAL
    assert settle(decider, 1.0, 1.1 * WORTH) is REMOTE
    assert settle(decider, 1.0, 0.5 * (1 + WORTH)) is REMOTE
    assert settle(decider, 1.0, 0.9) is LOCAL
    assert decider.usual_way(100) is None


def test_a_request_leaves_the_usual_way_only_where_the_other_costs_much_less() -> None:
    decider = make_decider()
    settle(decider, 1.0, 1.5)
    assert decider.decide(1000, forecasts(0.98 * MUCH, 1.0)).way is REMOTE
    assert decider.decide(1000, forecasts(1.02 * MUCH, 1.0)).way is LOCAL
    assert decider.decide(1000, forecasts(2.05, 1.95)).way is LOCAL, "one meets the goal"
    assert decider.usual_way(1000) is REMOTE


def test_waiting_makes_no_way_usual() -> None:
    decider = make_decider()
    ways = {REMOTE: Forecast(1.5, 0.02, wait_seconds=0.7), LOCAL: Forecast(1.2, 0.02)}
    assert {decider.decide(1000, ways).way for _ in range(100)} == {REMOTE}


def see_both(decider: Decider) -> None:
    """Both ways often enough, just as forecast."""
    for way, ttft in ((REMOTE, 1.0), (LOCAL, 1.15)):
        verdict = Verdict(way, size=size_of(1000), forecasts=forecasts(ttft, ttft))
        for _ in range(KNOWN):
            decider.observe(verdict, ttft)


def test_the_control_share_takes_the_other_way() -> None:
    decider = make_decider(control_share=0.05)
    see_both(decider)
    ways = {REMOTE: Forecast(1.0, 0.02), LOCAL: Forecast(1.15, 0.02)}
    verdicts = [decider.decide(1000, ways) for _ in range(4000)]
    controls = [verdict for verdict in verdicts if verdict.is_control]
    assert len(controls) == pytest.approx(200, rel=0.2)
    assert {verdict.way for verdict in controls} == {LOCAL}
    assert {verdict.way for verdict in verdicts if not verdict.is_control} == {REMOTE}


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        pytest.param(0.3, CONTROL_COST / 2, id="three times as much"),
        pytest.param(1.9, LEAST_CONTROL * 0.05, id="a floor"),
    ],
)
def test_control_adds_little_to_what_requests_cost(local: float, expected: float) -> None:
    decider = make_decider(control_share=0.05)
    see_both(decider)
    ways = {REMOTE: Forecast(0.1, 0.02), LOCAL: Forecast(local, 0.02)}
    verdicts = [decider.decide(1000, ways) for _ in range(20_000)]
    share = sum(verdict.is_control for verdict in verdicts) / len(verdicts)
    assert share == pytest.approx(expected, rel=0.3)


def test_a_way_that_is_hardly_known_is_tried_more_often() -> None:
    decider = make_decider(control_share=0.001)
    ways = {REMOTE: Forecast(0.1, 0.02), LOCAL: Forecast(1.9, 0.02)}
    tried = 0
    for _ in range(200):
        verdict = decider.decide(1000, ways)
        decider.observe(verdict, ways[verdict.way].ttft_seconds)
        tried += verdict.is_control
    assert tried == pytest.approx(KNOWN, abs=1)


def test_no_more_are_tried_while_the_first_have_not_ended() -> None:
    decider = make_decider(control_share=0.001)
    ways = {REMOTE: Forecast(0.1, 0.02), LOCAL: Forecast(1.9, 0.02)}
    tried = sum(decider.decide(1000, ways).is_control for _ in range(200))
    assert tried == pytest.approx(KNOWN, abs=1)


def test_a_size_that_was_never_seen_is_corrected_like_its_neighbour() -> None:
    decider = make_decider(Mode.ALWAYS)
    for _ in range(20):
        decider.observe(decider.decide(1000, forecasts(1.0, 2.0)), 5.0)
    costs = decider.decide(2000, forecasts(1.0, 2.0)).costs
    assert costs == decider.decide(1000, forecasts(1.0, 2.0)).costs
    assert decider.decide(100_000, forecasts(1.0, 2.0)).costs[REMOTE] < costs[REMOTE]


@pytest.mark.parametrize("mode", [Mode.ALWAYS, Mode.NEVER])
def test_without_a_choice_there_is_no_control(mode: Mode) -> None:
    decider = make_decider(mode, control_share=1.0)
    assert not decider.decide(1000, forecasts()).is_control


@pytest.mark.parametrize("factor", [0.3, 0.5, 2.0, 10.0])
def test_predictions_that_are_off_by_a_factor_are_corrected(factor: float) -> None:
    decider = make_decider(Mode.ALWAYS)
    for _ in range(50):
        verdict = decider.decide(1000, forecasts())
        decider.observe(verdict, factor * verdict.forecasts[REMOTE].ttft_seconds)
    seen = decider.seen[1024][REMOTE]
    assert seen.number == 50
    assert seen.ttft_seconds == pytest.approx(factor)
    assert seen.corrected(1.0) == pytest.approx(factor, rel=0.01)
    cost = Slo().cost(factor, Forecast(factor, 0.02))
    assert decider.decide(1000, forecasts()).costs[REMOTE] == pytest.approx(cost, rel=0.05)


def test_waiting_is_no_part_of_a_correction() -> None:
    decider = make_decider(Mode.ALWAYS)
    ways = {REMOTE: Forecast(1.5, 0.02, wait_seconds=0.5), LOCAL: Forecast(2.0, 0.02)}
    for _ in range(20):
        decider.observe(decider.decide(1000, ways), ttft_seconds=9.2, waited_seconds=8.0)
    seen = decider.seen[1024][REMOTE]
    assert seen.correction_seconds == pytest.approx(0.2)
    assert seen.ttft_seconds == pytest.approx(9.2)


def test_one_request_that_was_very_late_counts_as_if_it_was_less() -> None:
    decider = make_decider(Mode.ALWAYS)
    decider.observe(decider.decide(1000, forecasts()), 1000.0)
    assert decider.seen[1024][REMOTE].correction_seconds == MOST_LATE


def test_corrections_leave_something_of_a_prediction() -> None:
    decider = make_decider(Mode.ALWAYS)
    for _ in range(50):
        decider.observe(decider.decide(1000, forecasts(10.0)), 0.001)
    assert decider.seen[1024][REMOTE].corrected(10.0) == pytest.approx(10 * LEAST_SHARE)


def serve(decider: Decider, remote: float, local: float, number: int = 400) -> float:
    """Requests take so long; the share of them that were handed over."""
    handed = 0
    for _ in range(number):
        verdict = decider.decide(1000, forecasts(1.0, 2.0))
        decider.observe(verdict, remote if verdict.way is REMOTE else local)
        handed += verdict.way is REMOTE
    return handed / number


def test_hand_off_that_does_not_pay_is_turned_off_and_on_again() -> None:
    decider = make_decider(control_share=0.05)
    assert serve(decider, remote=1.0, local=2.0) > 0.9
    serve(decider, remote=5.0, local=2.0, number=100)
    assert serve(decider, remote=5.0, local=2.0, number=2000) < 0.1
    assert (decider.gain_seconds() or 0) < -2
    serve(decider, remote=1.0, local=2.0, number=2000)
    assert serve(decider, remote=1.0, local=2.0) > 0.9


def test_sizes_of_prompts_are_learned_apart() -> None:
    decider = make_decider()
    for _ in range(20):
        verdict = decider.decide(100, forecasts())
        decider.observe(verdict, 9.0 if verdict.way is REMOTE else 2.0)
    assert decider.decide(100, forecasts()).way is LOCAL
    assert decider.decide(10_000, forecasts()).way is REMOTE


def test_the_gain_is_known_once_enough_took_the_other_way() -> None:
    decider = make_decider()
    usual = Verdict(REMOTE, size=size_of(1000), forecasts=forecasts())
    control = Verdict(LOCAL, True, size=size_of(1000), forecasts=forecasts())
    decider.observe(usual, 1.0)
    for _ in range(LEAST_CONTROLS):
        assert decider.gain_seconds() is None
        decider.observe(control, 3.0)
    assert decider.gain_seconds() == pytest.approx(2.0)


def test_what_was_not_decided_here_teaches_nothing() -> None:
    decider = make_decider()
    decider.observe(Verdict(LOCAL), 1.0)
    decider.observe_answer(Verdict(LOCAL), 10, 1.0)
    assert decider.seen == {}


def test_gaps_are_learned() -> None:
    decider = make_decider(Mode.ALWAYS)
    verdict = decider.decide(1000, forecasts())
    for seconds in (0.1, 0.2):
        decider.observe_answer(verdict, 20, seconds)
    assert decider.seen[1024][REMOTE].itl_seconds == pytest.approx(0.12)
    assert decider.typical_outputs < GUESSED_OUTPUTS


@pytest.mark.parametrize(
    ("num_tokens", "size"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1025, 2048)]
)
def test_a_size_is_up_to_a_power_of_two(num_tokens: int, size: int) -> None:
    assert 2 ** size_of(num_tokens) == size


times = st.floats(0, 1e4)


@given(st.integers(0, 1 << 20), times, times, times, times, st.floats(0, 1))
def test_no_way_is_taken_that_costs_much_more_whatever_was_seen(
    num_tokens: int, remote: float, local: float, gap: float, seen: float, share: float
) -> None:
    decider = Decider(Mode.AUTO, Slo(), share, seed=1)
    ways = {REMOTE: Forecast(remote, gap), LOCAL: Forecast(local, gap)}
    decider.observe(decider.decide(num_tokens, ways), seen)
    verdict = decider.decide(num_tokens, ways)
    assert all(each > 0 for each in verdict.costs.values())
    cost, other = verdict.costs[verdict.way], verdict.costs[verdict.way.other]
    assert cost <= MUCH * other or verdict.is_control
