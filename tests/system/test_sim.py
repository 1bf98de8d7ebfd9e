"""A fleet of simulated workers, as a user starts it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from baton.console import Console
from baton.settings import CalibrateSettings
from baton.sim_calibrate import calibrate
from tests.system.exchange import client
from tests.system.live_fleet import LiveFleet
from worker.model_folder import ModelFolder
from worker.sim.answer import TokenRange, expected_tokens
from worker.sim.model import SimModel
from worker.sim.profile import SimProfile

pytestmark = pytest.mark.system

SPEED = 20
FLAGS = (
    *("--sim", "--prefill", "2", "--decode", "2", "--sim-speed", str(SPEED)),
    *("--disaggregation", "always"),
)
NUM_TOKENS = 40


@pytest.fixture(scope="module")
def simulated(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    fleet = LiveFleet(tmp_path_factory.mktemp("simulated"), model, *FLAGS)
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def answers(model: Path) -> TokenRange:
    return SimModel.of(ModelFolder.open(model), block_size=128, max_model_len=None).answers


def make_prompts(count: int) -> list[list[int]]:
    """Of all lengths around blocks and chunks; every third one goes on from the one before."""
    dice = random.Random(7)
    prompts: list[list[int]] = []
    for number in range(count):
        fresh = dice.choices(range(1000, 40000), k=dice.choice((2, 100, 128, 129, 513, 1400)))
        prompts.append([*prompts[-1], *fresh][:2000] if number % 3 == 2 else fresh)
    return prompts


def tokens_of(fleet: LiveFleet, prompt: list[int]) -> list[int]:
    body = {
        "model": fleet.model,
        "prompt": prompt,
        "max_tokens": NUM_TOKENS,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    with client() as http:
        answer = http.post(f"{fleet.url}/v1/completions", json=body).raise_for_status()
    tokens: list[int] = msgspec.json.decode(answer.content)["choices"][0]["token_ids"]
    return tokens


def test_every_token_is_right(simulated: LiveFleet, answers: TokenRange) -> None:
    prompts = make_prompts(60)
    with ThreadPoolExecutor(20) as threads:
        got = list(threads.map(lambda prompt: tokens_of(simulated, prompt), prompts))
    assert got == [expected_tokens(prompt, NUM_TOKENS, answers) for prompt in prompts]
    report = simulated.report()
    assert not report.holds
    assert sum(each.load.transfers.loads_completed for each in report.workers) > 0
    assert sum(each.load.transfers.loads_failed for each in report.workers) == 0


def test_its_text_is_that_of_ordinary_words(simulated: LiveFleet) -> None:
    message = {"role": "user", "content": "What is the capital of France?"}
    body = {"model": simulated.model, "messages": [message], "max_tokens": 30}
    with client() as http:
        answer = http.post(f"{simulated.url}/v1/chat/completions", json=body).raise_for_status()
    text = msgspec.json.decode(answer.content)["choices"][0]["message"]["content"]
    assert len(text) >= 30
    assert text.isascii()
    assert text.isprintable()


def test_what_is_not_simulated_is_said(simulated: LiveFleet) -> None:
    body = {"model": simulated.model, "prompt": "Hi", "logprobs": 1}
    with client() as http:
        answer = http.post(f"{simulated.url}/v1/completions", json=body)
    assert answer.status_code == 400
    assert "logprobs: not supported by a simulated engine" in answer.text


def test_its_own_speed_is_measured_again(simulated: LiveFleet, tmp_path: Path) -> None:
    out = tmp_path / "sim.json"
    settings = CalibrateSettings(url=simulated.url, out=out, longest=2048, streams=4)
    assert calibrate(settings, Console()) == 0
    found, real = SimProfile.read(out), SimProfile().faster(SPEED)
    # The rest is too quick to be told from what the gateway takes.
    assert found.prefill_token_seconds == pytest.approx(real.prefill_token_seconds, rel=0.6)


def test_it_ends_in_order(simulated: LiveFleet) -> None:
    lived = simulated.living()
    assert simulated.interrupt() == 0
    simulated.assert_nothing_left(lived)
