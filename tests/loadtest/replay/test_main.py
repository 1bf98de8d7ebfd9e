"""The command from trace to report."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.replay.__main__ import main
from tests.loadtest.replay.sse_server import SseServer, serving

LINES = [
    '{"timestamp": 0, "input_length": 1024, "output_length": 64, "hash_ids": [1, 2]}',
    '{"timestamp": 900, "input_length": 1030, "output_length": 64, "hash_ids": [1, 2, 3]}',
]


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_trace_is_replayed_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(LINES))
    files = {flag: tmp_path / f"out.{flag}" for flag in ("json", "svg")}
    words = ["--scale", "16", "--speed", "10", "--json", str(files["json"])]
    words += ["--plot", str(files["svg"])]
    workers = [{"worker_id": "w0", "role": "decode", "load": {"num_kv_blocks": 100}}]
    with serving(SseServer(workers=workers, cached_tokens=32)) as server:
        assert main([str(trace), "--fleet", server.url, *words]) == 0
    assert [len(request["prompt"]) for request in server.requests] == [64, 65]
    assert server.requests[1]["prompt"][:64] == server.requests[0]["prompt"]
    out = capsys.readouterr().out
    assert "2 of 2 requests answered" in out
    assert "hit rate: 49.6 % of prompt tokens (told by usage)" in out
    assert "one pooled cache of 100 blocks of 16 tokens 49.6 %" in out
    (run,) = json.loads(files["json"].read_text())["runs"]
    assert run["figures"]["num_done"] == 2
    assert files["svg"].stat().st_size > 1000


def test_prompts_fit_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    trace = "agents:requests=1,system=9000,output=96"
    with serving(SseServer()) as server:
        assert main([trace, "--fleet", server.url]) == 0
    assert len(server.requests[0]["prompt"]) == 4000


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["agents:x=1"], 2, "error: agents has no setting 'x'"),
        (["agents", "--no-such"], 2, "error: unrecognized arguments: --no-such"),
        (["agents", "--fleet", "http://127.0.0.1:1"], 1, "error: http://127.0.0.1:1: "),
    ],
)
def test_a_failure_is_one_line(
    words: list[str], status: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    error = capsys.readouterr().err
    assert error.startswith(complaint)
    assert error.count("\n") == 1


def test_a_server_without_a_model_is_no_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(SseServer(models=[])) as server:
        assert main(["agents", "--fleet", server.url]) == 1
    assert "names no model" in capsys.readouterr().err
