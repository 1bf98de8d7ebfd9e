"""A simulated fleet of the command's own is there for the run and gone after it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loadtest.endpoint import Endpoint
from loadtest.replay.errors import FleetFailed
from loadtest.replay.sim_fleet import sim_fleet

COMMAND = (sys.executable, "-m", "tests.loadtest.replay.standin_fleet")


def test_it_serves_and_is_stopped(tmp_path: Path) -> None:
    words = ["--words", str(tmp_path / "end")]
    with sim_fleet(words, 20.0, COMMAND) as url:
        assert Endpoint(url).model() == "sse"
    assert (tmp_path / "end").read_text() == "stopped"


def test_it_is_stopped_when_the_run_fails(tmp_path: Path) -> None:
    words = ["--words", str(tmp_path / "end")]
    with pytest.raises(KeyboardInterrupt), sim_fleet(words, 20.0, COMMAND):
        raise KeyboardInterrupt
    assert (tmp_path / "end").read_text() == "stopped"


def test_why_it_did_not_start_is_told() -> None:
    complaint = "did not start: starting | error: no such model"
    with (
        pytest.raises(FleetFailed, match=complaint.replace("|", r"\|")),
        sim_fleet(["--fails"], 20.0, COMMAND),
    ):
        pass


def test_one_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    words = ["--hangs", "--words", str(tmp_path / "end")]
    with pytest.raises(FleetFailed, match="not ready in time"), sim_fleet(words, 1.0, COMMAND):
        pass
