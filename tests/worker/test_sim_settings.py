from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.proto.builders import LAYOUT
from tests.worker.sim_stage import ANSWERS
from worker.engine_codec import SimCodec
from worker.errors import BadSettings
from worker.settings import parse
from worker.sim.crew import SimWorker, limits_of, make_crew, profile_of
from worker.sim.model import SimModel
from worker.sim.profile import SimProfile
from worker.sim.settings import SimSettings
from worker.sim.timeline import Timeline

MODEL = SimModel(LAYOUT, 400, 2000, ANSWERS)
WORDS = ["--model", "m", "--redis", "redis://", "--fleet-key-file", "key", "--kv-blocks", "9"]


def make_settings(*words: str) -> SimSettings:
    return parse(SimSettings, "sim", [*WORDS, *words])


def crew(*words: str) -> list[SimWorker]:
    settings = make_settings("--max-model-len", "400", *words)
    timeline = Timeline(time.monotonic)
    return make_crew(settings, MODEL, SimCodec(LAYOUT.block_size), "0.32.0", timeline)


def test_workers_are_numbered_within_their_kind() -> None:
    found = {each.worker_id: each.roles for each in crew("--prefill", "2", "--both", "1")}
    assert list(found) == ["prefill-0", "prefill-1", "decode-0", "both-0"]
    assert [len(roles) for roles in found.values()] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param(["--prefill", "0", "--decode", "0"], "at least one worker", id="nobody"),
        pytest.param(["--slow", "decode-7=2"], "no worker decode-7", id="slow-stranger"),
        pytest.param(["--kv-blocks", "3"], "3 blocks of 128 tokens have no room", id="small-cache"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], problem: str) -> None:
    with pytest.raises(BadSettings, match=problem):
        crew(*words)


@pytest.mark.parametrize("words", ["decode-0", "decode-0=", "decode-0=-1", "decode-0=x"])
def test_slowness_is_a_number(words: str) -> None:
    with pytest.raises(BadSettings, match="--slow"):
        make_settings("--slow", words)


def test_speed_is_for_all_and_bandwidth_in_gigabits(tmp_path: Path) -> None:
    path = tmp_path / "sim.json"
    path.write_text('{"step_seconds": 0.5}')
    settings = make_settings("--profile", str(path), "--speed", "10", "--bandwidth-gbps", "8")
    profile = profile_of(settings)
    assert profile.step_seconds == pytest.approx(0.05)
    assert profile.bandwidth == pytest.approx(1e10)
    assert profile.latency_seconds == pytest.approx(SimProfile().latency_seconds / 10)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param('{"step": 1}', "unknown field `step`", id="unknown"),
        pytest.param('{"step_seconds": -1}', "step_seconds is below zero", id="negative"),
        pytest.param('{"bandwidth": 0}', "bandwidth is above zero", id="still"),
        pytest.param("", "truncated", id="empty"),
    ],
)
def test_a_bad_profile_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "sim.json"
    path.write_text(text)
    with pytest.raises(BadSettings, match=problem):
        SimProfile.read(path)


def test_a_long_prompt_leaves_room_in_a_step() -> None:
    words = ("--max-num-batched-tokens", "1000")
    assert limits_of(make_settings(*words), MODEL).max_chunk_tokens == 800
    threshold = ("--long-prefill-token-threshold", "64")
    assert limits_of(make_settings(*words, *threshold), MODEL).max_chunk_tokens == 64
