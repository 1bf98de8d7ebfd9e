from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from baton.identity import ProcessIdentity
from baton.leftovers import remove_leftovers
from baton.run_folder import RunFolder
from baton.run_state import ProcessState, RunState
from baton.supervisor import Phase

NOBODY = ProcessIdentity(pid=2**22 + 1, start_ticks=1)


def make_state(*identities: ProcessIdentity | None) -> RunState:
    processes = tuple(
        ProcessState(f"p-{i}", "decode", Phase.READY, 0, (0,), identity, "p.log")
        for i, identity in enumerate(identities)
    )
    return RunState(NOBODY, "http://h:1", "tiny", "f", "unix:///s", 1.5, True, processes)


def test_one_at_a_time_has_the_folder(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    folder.make()
    with folder.lock() as first:
        assert first
        with folder.lock() as second:
            assert not second
    with folder.lock() as third:
        assert third


def test_the_folder_is_for_its_user_only(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    folder.make()
    assert folder.path.stat().st_mode & 0o077 == 0


def test_the_socket_is_in_the_folder_unless_its_path_would_be_too_long(tmp_path: Path) -> None:
    assert RunFolder(Path("/short")).socket == Path("/short/valkey.sock")
    deep = RunFolder(Path("/", "x" * 200))
    other = RunFolder(Path("/", "y" * 200))
    assert len(str(deep.socket)) < 100
    assert deep.socket != other.socket


def test_a_state_is_read_as_it_was_saved(tmp_path: Path) -> None:
    state = make_state(NOBODY, None)
    state.save(tmp_path / "state.json")
    assert RunState.read(tmp_path / "state.json") == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert RunState.read(path) is None
    path.write_text("{")
    assert RunState.read(path) is None


def test_an_identity_is_more_than_a_pid() -> None:
    ours = ProcessIdentity.of(os.getpid())
    assert ours
    assert ours.is_alive()
    assert not ProcessIdentity(ours.pid, ours.start_ticks + 1).is_alive()
    assert not NOBODY.is_alive()


def test_leftovers_are_ended_and_recycled_pids_spared(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as spared:
        left = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
        )
        recycled = ProcessIdentity(spared.pid, 1)
        state = make_state(ProcessIdentity.of(left.pid), recycled, NOBODY, None)
        state.save(tmp_path / "state.json")
        assert remove_leftovers(tmp_path / "state.json") == ("p-0",)
        assert left.wait(10) < 0
        assert left.stdin
        left.stdin.close()
        assert spared.poll() is None
    assert not (tmp_path / "state.json").exists()
