from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.stage import SetupError, Stage, Tools, digest, last_line

SAYS = "import sys; print('so far'); print('so good')"
FAILS = "import sys; sys.exit('it broke')"


def make_stage(code: str, *makes: Path, key: str = "1") -> Stage:
    def run(tools: Tools) -> None:
        tools.run(sys.executable, "-c", code)

    return Stage("thing", "a thing", key, run, makes)


def test_a_stage_is_done_once_and_again_when_its_key_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = make_stage(SAYS)
    assert not stage.is_done(tmp_path)
    stage.carry_out(1, 2, tmp_path / "log", tmp_path)
    assert capsys.readouterr().out.startswith("[1/2] thing     a thing  ")
    assert stage.is_done(tmp_path)
    assert not make_stage(SAYS, key="2").is_done(tmp_path)
    assert last_line(tmp_path / "log") == "so good"


def test_a_stage_whose_result_was_removed_is_not_done(tmp_path: Path) -> None:
    result = tmp_path / "result"
    stage = make_stage(f"open({str(result)!r}, 'w')", result)
    stage.carry_out(1, 1, tmp_path / "log", tmp_path)
    assert stage.is_done(tmp_path)
    result.unlink()
    assert not stage.is_done(tmp_path)


def test_a_stage_that_fails_loses_its_stamp_and_leaves_the_reason_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_stage(SAYS).carry_out(1, 1, tmp_path / "log", tmp_path)
    broken = make_stage(FAILS)
    with pytest.raises(SetupError):
        broken.carry_out(1, 1, tmp_path / "log", tmp_path)
    assert not broken.is_done(tmp_path)
    assert last_line(tmp_path / "log") == "it broke"
    assert capsys.readouterr().out.endswith("failed\n")


def test_a_digest_depends_on_every_part() -> None:
    assert len({digest("a", "b"), digest("ab"), digest("b", "a"), digest(["a"], "b")}) == 4
