from __future__ import annotations

import os
from pathlib import Path

import pytest

from baton import log_file
from baton.log_file import LogFile


def write(log: LogFile, text: str, *, is_first: bool = False) -> int:
    """The offset that the text begins at."""
    descriptor = log.open(is_first=is_first)
    offset = log.size()
    os.write(descriptor, text.encode())
    os.close(descriptor)
    return offset


def test_the_first_start_of_a_run_empties_the_log(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    write(log, "old\n")
    write(log, "new\n", is_first=True)
    assert log.tail() == b"new\n"


def test_what_a_process_said_is_its_last_error_line_of_this_start(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    write(log, "error: of the start before\n")
    second = write(log, "noise\nerror: first\nerror: port 1 is taken\nbye\n")
    third = write(log, "nothing of note\n")
    assert log.said_error(second) == "port 1 is taken"
    assert log.said_error(third) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Traceback\nValueError: x\nbye\n", "ValueError: x"),
        ("(EngineCore pid=3) ERROR 11-21 [core.py] it broke\n", "(EngineCore pid=3) ERROR 11-21"),
        ("builtins.KeyboardInterrupt\nqueue.EmptyError\n", "queue.EmptyError"),
        ("INFO Disabling Triton to prevent runtime errors.\n", None),
        ("", None),
    ],
)
def test_last_words_are_the_last_line_that_tells_of_an_error(
    tmp_path: Path, text: str, words: str | None
) -> None:
    log = LogFile(tmp_path / "a.log")
    found = log.last_words(write(log, text))
    assert found == words if words is None else (found or "").startswith(words)


def test_a_log_that_is_not_there_has_no_words(tmp_path: Path) -> None:
    assert LogFile(tmp_path / "absent.log").last_words() is None


def test_a_log_that_grows_too_large_keeps_its_last_part_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 100)
    log = LogFile(tmp_path / "a.log")
    descriptor = log.open(is_first=True)
    os.write(descriptor, b"x" * 100 + b"y" * 50)
    log.bound()
    os.write(descriptor, b"z")
    os.close(descriptor)
    assert log.tail() == b"z"
    assert (tmp_path / "a.log.1").read_bytes() == b"y" * 50
