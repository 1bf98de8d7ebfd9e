from __future__ import annotations

import os
from pathlib import Path

from baton.segments import SegmentLedger


def test_only_noted_segments_that_nobody_uses_are_removed(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    ledger = SegmentLedger(tmp_path)
    for name in ("ours", "used", "strange"):
        (tmp_path / name).touch()
    used = os.open(tmp_path / "used", os.O_RDONLY)
    others = [os.open(tmp_path / name, os.O_RDONLY) for name in ("before", "ours")]
    ledger.note([os.getpid()])
    for descriptor in others:
        os.close(descriptor)
    assert ledger.sweep() == (str(tmp_path / "ours"),)
    assert {path.name for path in tmp_path.iterdir()} == {"before", "used", "strange"}
    os.close(used)
    assert ledger.sweep() == (str(tmp_path / "used"),)


def test_another_file_of_the_same_name_is_not_ours(tmp_path: Path) -> None:
    ledger = SegmentLedger(tmp_path)
    with (tmp_path / "a").open("w"):
        ledger.note([os.getpid()])
    (tmp_path / "b").touch()
    (tmp_path / "b").rename(tmp_path / "a")
    assert ledger.sweep() == ()
    assert (tmp_path / "a").exists()


def test_processes_that_are_gone_have_no_segments(tmp_path: Path) -> None:
    ledger = SegmentLedger(tmp_path)
    assert ledger.note([2**22 + 1]) == set()
    assert ledger.sweep() == ()
