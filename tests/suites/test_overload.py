"""An overload is the same for the same seed, and notices what must not be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.suites.overload import (
    ANSWER_TOKENS,
    Moment,
    Result,
    Totals,
    Wave,
    over_time,
    table,
    waves,
)
from tests.suites.wide_fleet import places

WAVE = waves(4)[1]
TOTALS = Totals(5000, 0, 0, 0, 0, {"moved": 4.0, "revoked": 0.0})
MOMENT = Moment(1.0, 3, 1, 0, 0.8, 0.9)
RESULT = Result(WAVE, 5000, 4, (), 60.0, TOTALS, (MOMENT,))


@pytest.mark.parametrize("wave", waves(40), ids=lambda wave: wave.name)
def test_prompts_are_the_same_for_the_same_seed_and_share_nothing(wave: Wave) -> None:
    prompts = wave.prompts(1)
    assert prompts == wave.prompts(1) != wave.prompts(2)
    assert len({prompt.ids[:8] for prompt in prompts}) == len(prompts) == wave.num_prompts
    for prompt in prompts:
        assert ANSWER_TOKENS[0] <= prompt.max_tokens <= ANSWER_TOKENS[1]
        assert len(prompt.ids) + prompt.max_tokens <= wave.longest


def test_without_limits_an_answer_may_be_as_long_as_the_model_lets_it() -> None:
    wave = waves(10)[-1]
    assert {len(prompt.ids) + prompt.max_tokens for prompt in wave.prompts(1)} == {wave.longest}


def test_all_well_is_no_problem() -> None:
    assert list(RESULT.problems()) == []


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (replace(RESULT, answered=3), "3 of 4 requests were answered in full"),
        (replace(RESULT, errors=("1 times: full",)), "1 times: full"),
        (replace(RESULT, totals=replace(TOTALS, preemptions=2)), "2 preemptions"),
        (replace(RESULT, totals=replace(TOTALS, loads_failed=1)), "1 loads failed"),
        (replace(RESULT, totals=replace(TOTALS, sends_failed=1)), "1 sends failed"),
        (replace(RESULT, totals=replace(TOTALS, taken_back=1)), "1 hand-offs were taken back"),
        (replace(RESULT, needed=4990), "10 prompt tokens were computed twice"),
        (
            replace(RESULT, totals=replace(TOTALS, handoffs={"moved": 4.0, "local": 1.0})),
            "hand-offs of 4: {'moved': 4.0, 'local': 1.0}",
        ),
        (replace(RESULT, moments=()), "nothing waited: this was no overload"),
    ],
)
def test_what_must_not_be_is_one_problem(result: Result, problem: str) -> None:
    assert list(result.problems()) == [problem]


def test_of_two_gateways_one_may_find_the_room_taken() -> None:
    wave = replace(WAVE, num_gateways=2)
    assert not list(replace(RESULT, wave=wave, totals=replace(TOTALS, taken_back=1)).problems())


def test_totals_are_since_an_earlier_moment() -> None:
    later = Totals(7000, 1, 0, 0, 0, {"moved": 9.0, "revoked": 0.0})
    assert later.since(TOTALS) == Totals(2000, 1, 0, 0, 0, {"moved": 5.0, "revoked": 0.0})


def test_the_table_has_a_line_for_each_wave_and_its_queue() -> None:
    assert "4 of 4" in table([RESULT]).splitlines()[1]
    assert len(over_time([MOMENT] * 100)) <= 12


def test_decode_workers_share_a_core_with_prefill_only_if_they_must() -> None:
    assert places((4, 5), 1, 2) == {"prefill-0": 4, "decode-0": 5, "decode-1": 5}
    assert places((4, 5), 2, 2) == {"prefill-0": 4, "prefill-1": 5, "decode-0": 4, "decode-1": 5}
    assert places((0, 1, 2), 1, 2) == {"prefill-0": 0, "decode-0": 1, "decode-1": 2}
