from __future__ import annotations

import random

import pytest

from gateway.routing.rates import Rates, StepCosts
from proto import worker_pb2
from tests.gateway.routing.builders import generating, prefilling

GUESS = (0.01, 0.0005)


def make_rates() -> Rates:
    return Rates(StepCosts(*GUESS), StepCosts(*GUESS))


class Worker:
    """Adds up what it computes: each step takes 5 ms and each token of a prompt `token_seconds`."""

    def __init__(self, token_seconds: float = 0.0002) -> None:
        self.token_seconds = token_seconds
        self.totals = worker_pb2.Work()
        self.dice = random.Random(1)

    def prefill(self, *steps: int) -> worker_pb2.Work:
        totals = self.totals
        for num_tokens in steps:
            totals.prefill_steps += 1
            totals.prefill_tokens += num_tokens
            seconds = 0.005 + num_tokens * self.token_seconds
            totals.prefill_seconds += seconds * self.dice.uniform(0.9, 1.1)
        told = worker_pb2.Work()
        told.CopyFrom(totals)
        return told


def prompt_seconds(rates: Rates, num_tokens: int = 1000) -> float:
    return rates.prefill.seconds(1, num_tokens)


def test_what_counts_is_what_has_changed_since_the_last_totals() -> None:
    rates, worker = make_rates(), Worker()
    for number in range(50):
        rates.learn(worker.prefill(200, 20 * number), 0.0)
    assert prompt_seconds(rates) == pytest.approx(0.205, rel=0.1)


def test_the_same_totals_again_are_no_news() -> None:
    rates, worker = make_rates(), Worker()
    work = worker.prefill(100, 300)
    rates.learn(work, 0.0)
    before = rates.prefill.per_step, rates.prefill.per_token
    rates.learn(work, 0.0)
    assert (rates.prefill.per_step, rates.prefill.per_token) == before


def test_a_report_that_is_missing_is_made_up_for_by_the_next() -> None:
    all_told, some_told = make_rates(), make_rates()
    worker = Worker()
    for number in range(100):
        work = worker.prefill(100 + number, 900)
        all_told.learn(work, 0.0)
        if number % 3:
            some_told.learn(work, 0.0)
    assert prompt_seconds(some_told) == pytest.approx(prompt_seconds(all_told), rel=0.05)


def test_totals_that_begin_anew_do_no_harm() -> None:
    rates = make_rates()
    for worker in (Worker(), Worker()):
        for _ in range(30):
            rates.learn(worker.prefill(200, 900), 0.0)
            assert prompt_seconds(rates) == pytest.approx(0.205, rel=0.25)


def test_a_worker_that_becomes_slower_is_known_to_be() -> None:
    rates, worker = make_rates(), Worker()
    for _ in range(50):
        rates.learn(worker.prefill(200, 900), 0.0)
    worker.token_seconds *= 3
    for number in range(100):
        rates.learn(worker.prefill(200, 10 * number), 0.0)
    assert prompt_seconds(rates) == pytest.approx(0.605, rel=0.2)


def test_small_prompts_for_a_while_do_not_unlearn_what_large_ones_take() -> None:
    rates, worker = make_rates(), Worker()
    for _ in range(50):
        rates.learn(worker.prefill(200, 900), 0.0)
    for _ in range(500):
        rates.learn(worker.prefill(30, 30, 30), 0.0)
    assert prompt_seconds(rates) == pytest.approx(0.205, rel=0.2)


@pytest.mark.parametrize(
    ("per_step", "per_token"),
    [
        pytest.param(0.02, 0.0, id="every step takes the same"),
        pytest.param(0.0, 0.001, id="only tokens count"),
        pytest.param(0.004, 0.00002, id="a fast one"),
        pytest.param(0.5, 0.01, id="a slow one"),
    ],
)
def test_both_costs_of_a_step_are_found(per_step: float, per_token: float) -> None:
    costs, dice = StepCosts(*GUESS), random.Random(1)
    for _ in range(100):
        tokens = dice.randint(1, 2000)
        costs.learn(1, tokens, per_step + tokens * per_token)
    for tokens in (100, 1000):
        expected = per_step + tokens * per_token
        assert costs.seconds(1, tokens) == pytest.approx(expected, rel=0.05)
    assert costs.per_step >= 0
    assert costs.per_token >= 0


@pytest.mark.parametrize("window", [(0, 10, 1.0), (1, 0, 1.0), (1, 10, 0.0), (-1, -10, -1.0)])
def test_windows_without_work_tell_nothing(window: tuple[int, int, float]) -> None:
    costs = StepCosts(*GUESS)
    costs.learn(*window)
    assert (costs.per_step, costs.per_token, costs.trust) == (*GUESS, 0.0)


def test_trust_grows_with_work_and_fades_without() -> None:
    rates = make_rates()
    rates.learn(prefilling(10, 1000, 1.0), 0.0)
    fresh = rates.prefill.trust
    assert fresh == pytest.approx(0.5)
    rates.learn(prefilling(10, 1000, 1.0), 3600.0)
    assert rates.prefill.trust < 0.01
    assert rates.decode.trust == 0


def test_a_step_that_generates_takes_longer_with_more_sequences() -> None:
    rates = make_rates()
    rates.learn(generating(100, 100, 2.1), 0.0)
    rates.learn(generating(200, 1700, 2.1 + 3.6), 0.0)
    assert rates.decode.seconds(1, 16) > rates.decode.seconds(1, 1) > 0.01
    assert rates.decode.seconds(1, 16) == pytest.approx(0.036, rel=0.1)


def mixed(steps: int, seconds: float, prompt_tokens: int) -> worker_pb2.Work:
    return worker_pb2.Work(
        decode_steps=1000,
        decode_tokens=1000,
        decode_seconds=10.0,
        mixed_steps=steps,
        mixed_seconds=seconds,
        mixed_prefill_tokens=prompt_tokens,
        mixed_decode_tokens=steps,
    )


def test_a_stall_is_what_a_step_takes_longer_for_a_prompt_beside_it() -> None:
    rates = make_rates()
    rates.learn(mixed(0, 0.0, 0), 0.0)
    assert rates.stall_seconds is None
    rates.learn(mixed(10, 10 * 0.11, 1000), 0.0)
    assert rates.stall_seconds == pytest.approx(0.001, rel=0.05)
    rates.learn(mixed(10_000, 10_000 * 0.21, 1000 + 100 * 9_990), 0.0)
    assert rates.stall_seconds == pytest.approx(0.002, rel=0.1)


def test_a_prompt_that_costs_nothing_beside_them_stalls_nobody() -> None:
    rates = make_rates()
    rates.learn(mixed(0, 0.0, 0), 0.0)
    rates.learn(mixed(10, 10 * 0.005, 1000), 0.0)
    assert rates.stall_seconds == 0


def test_totals_of_mixed_steps_that_begin_anew_do_no_harm() -> None:
    rates = make_rates()
    rates.learn(mixed(0, 0.0, 0), 0.0)
    rates.learn(mixed(10, 10 * 0.11, 1000), 0.0)
    rates.learn(mixed(2, 5.0, 2000), 0.0)
    assert rates.stall_seconds == pytest.approx(0.001, rel=0.05)
