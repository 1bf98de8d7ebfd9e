"""A trace is found by its name, and a wrong name or setting is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.replay.errors import BadInput
from loadtest.replay.traces import load_trace


def test_settings_replace_the_usual_ones() -> None:
    assert len(load_trace("multi-turn:sessions=3,turns=2,think=0", seed=0)) == 6
    assert len(load_trace("agents", seed=0)) == 1000


@pytest.mark.parametrize(
    ("trace", "complaint"),
    [
        ("multi-turn:turn=3", "multi-turn has no setting 'turn'; it has sessions, turns, groups"),
        ("agents:rate=fast", "agents: rate is float, not 'fast'"),
        ("agents:requests=1.5", "agents: requests is int, not '1.5'"),
        ("agents:requests=0", "agents: requests must be above 0"),
        ("agents:rate=-1", "agents: rate must be above 0"),
        ("trace.txt", r"a trace is a .jsonl file, a .csv file, multi-turn:... or agents:..., not"),
        ("missing.jsonl", "missing.jsonl: No such file"),
    ],
)
def test_what_cannot_be_used_is_explained(trace: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        load_trace(trace, seed=0)


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"", "holds no request"), (b"\xff\xfe", "line 1")]
)
def test_a_file_without_a_request_is_refused(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=complaint):
        load_trace(str(file), seed=0)
