from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from baton.guard import standing
from baton.guarded import guarded
from baton.segments import Segment, SegmentLedger
from baton.sessions import members


def test_sessions_that_ended_no_longer_stand(tmp_path: Path) -> None:
    ledger = SegmentLedger(tmp_path)
    lines = ["+ 1\n", "+ 2\n", "shm 7 /dev/shm/a b\n", "- 1\n", "nonsense\n"]
    assert standing(lines, ledger) == {2}
    assert ledger.noted == {Segment("/dev/shm/a b", 7)}


def test_at_the_end_it_kills_what_stands_and_removes_the_files(tmp_path: Path) -> None:
    file = tmp_path / "valkey.sock"
    file.touch()
    with guarded([file]) as guard:
        left = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
        )
        guard.began(left.pid)
        assert members(left.pid) == (left.pid,)
    assert left.wait(10) < 0
    assert left.stdin
    left.stdin.close()
    assert not file.exists()
