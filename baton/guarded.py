"""The supervisor's end of its guard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from baton.segments import Segment

EXIT_SECONDS = 5.0


class Guard:
    """What `baton.guard` is told. A guard that has died is done without."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def began(self, session: int) -> None:
        self._tell(f"+ {session}")

    def ended(self, session: int) -> None:
        self._tell(f"- {session}")

    def noted(self, segment: Segment) -> None:
        self._tell(f"shm {segment.inode} {segment.path}")

    def _tell(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._pipe.write(f"{line}\n")
            self._pipe.flush()


@contextmanager
def guarded(files: Sequence[Path]) -> Iterator[Guard]:
    """While the body runs, its death takes the sessions and the files along."""
    process = subprocess.Popen(
        [sys.executable, "-m", "baton.guard", *map(str, files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin
    try:
        yield Guard(process.stdin)
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
