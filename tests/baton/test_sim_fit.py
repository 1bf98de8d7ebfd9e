from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from baton.sim_fit import Generation, Prompt, exposed_bytes, fit, num_steps, solve
from baton.sim_probe import chunks, seconds_between
from worker.sim.profile import SimProfile

REAL = SimProfile(
    step_seconds=0.02,
    prefill_token_seconds=0.002,
    attention_seconds=3e-7,
    decode_seconds=0.001,
    context_token_seconds=4e-6,
    bandwidth=1e9,
    latency_seconds=0.003,
)
CHUNK = 512
LAYERS = 30
OVERHEAD = 0.015


def measured_generations() -> list[Generation]:
    return [
        Generation(
            num_streams,
            context,
            REAL.step_seconds
            + num_streams * (REAL.decode_seconds + context * REAL.context_token_seconds),
        )
        for num_streams in (1, 2, 4, 8)
        for context in (90.0, 1100.0)
    ]


def measured_prompts() -> list[Prompt]:
    prompts = []
    for count in (64, 256, 1000, 2048, 4096):
        bare = Prompt(count, 0.0, num_bytes=count * 23040)
        seconds = (
            num_steps(bare, CHUNK) * REAL.step_seconds
            + (count + 1) * REAL.prefill_token_seconds
            + (count**2 / 2 + count) * REAL.attention_seconds
            + OVERHEAD
        )
        exposed = REAL.latency_seconds + exposed_bytes(bare, LAYERS, CHUNK) / REAL.bandwidth
        prompts.append(Prompt(count, seconds, exposed, count * 23040))
    return prompts


def test_what_made_the_measurements_is_found_again(tmp_path: Path) -> None:
    found = fit(measured_generations(), measured_prompts(), LAYERS, CHUNK)
    assert found.overhead_seconds == pytest.approx(OVERHEAD)
    path = tmp_path / "sim.json"
    path.write_bytes(msgspec.json.encode(found.profile))
    profile = SimProfile.read(path)
    for name in SimProfile.__struct_fields__:
        assert getattr(profile, name) == pytest.approx(getattr(REAL, name)), name
    for generation in measured_generations():
        assert found.generation_seconds(generation) == pytest.approx(generation.seconds)
    for prompt in measured_prompts():
        assert found.prompt_seconds(prompt) == pytest.approx(prompt.seconds)
        assert found.exposed_seconds(prompt, LAYERS) == pytest.approx(prompt.exposed_seconds)


def test_a_network_without_a_trace_is_left_out() -> None:
    bare = [Prompt(each.num_tokens, each.seconds) for each in measured_prompts()]
    found = fit(measured_generations(), bare, LAYERS, CHUNK)
    assert "bandwidth" not in found.profile
    assert found.exposed_seconds(bare[0], LAYERS) is None


def test_nothing_is_below_zero() -> None:
    rows = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert solve(rows, np.array([3.0, 2.0, 1.5])) == [pytest.approx(1.86, abs=0.2), 0.0]


def test_only_the_time_when_all_streams_run_counts() -> None:
    early = [(0.0, 1), (0.1, 1), (1.0, 1), (2.0, 2), (3.0, 1)]
    late = [(0.9, 1), (1.9, 2), (2.9, 2), (9.0, 1)]
    assert seconds_between([early, late]) == pytest.approx(0.5)


def test_chunks_without_tokens_and_other_lines_are_passed_over() -> None:
    lines = [
        b'data: {"choices": [{"token_ids": [1, 2]}]}\n',
        b"\n",
        b'data: {"choices": []}\n',
        b"data: [DONE]\n",
    ]
    assert [number for _, number in chunks(lines)] == [2]
