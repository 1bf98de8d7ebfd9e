from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from baton.errors import BadSettings
from baton.fleet_key import key_of_run, write_key
from proto.fleet_key import FleetKey


def test_a_run_has_a_key_of_its_own_that_ends_with_it(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        with key_of_run(None, tmp_path / "fleet.key") as path:
            keys.append(FleetKey.read(path).to_hex())
        assert not path.exists()
    assert keys[0] != keys[1]


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "fleet.key").write_text("old")
    (tmp_path / "fleet.key").chmod(0o644)
    with key_of_run(None, tmp_path / "fleet.key") as path:
        FleetKey.read(path)


def test_a_given_key_is_used_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_key(Path("mine"))
    with key_of_run(Path("mine"), tmp_path / "fleet.key") as path:
        assert path == tmp_path / "mine"
    assert path.exists()
    assert not (tmp_path / "fleet.key").exists()


def test_a_given_key_that_is_none_is_refused(tmp_path: Path) -> None:
    run = key_of_run(tmp_path / "none", tmp_path / "fleet.key")
    with pytest.raises(BadSettings, match=r"--fleet-key-file: .*no fleet key there"), run:
        pass


def test_a_key_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no fleet key can be written"):
        write_key(tmp_path / "nowhere" / "fleet.key")


def test_baton_key_writes_a_key_that_can_be_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    former = os.umask(0o022)
    try:
        with path.open("w") as out:
            subprocess.run([sys.executable, "-m", "baton", "key"], stdout=out, check=True)
    finally:
        os.umask(former)
    assert len(FleetKey.read(path).to_hex()) == 64
