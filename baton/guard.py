"""The last one standing: ends what a killed supervisor left behind.

    python -m baton.guard FILE...

The supervisor tells it, a line each over its standard input, of every session that begins
("+ PID") and ends ("- PID"), and of shared memory that one uses ("shm INODE PATH"). When
that pipe closes, because the supervisor ended in whatever way, every session that still
stands is killed, its shared memory is removed, and so is every FILE.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from baton.segments import Segment, SegmentLedger
from baton.sessions import end, members


def main(files: list[str]) -> None:
    # It outlives what a terminal or `kill` sends to everyone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ledger = SegmentLedger()
    for session in standing(sys.stdin, ledger):
        ledger.note(members(session))
        end(session)
    ledger.sweep()
    for file in map(Path, files):
        file.unlink(missing_ok=True)


def standing(lines: Iterable[str], ledger: SegmentLedger) -> set[int]:
    """The sessions that began and did not end, once the lines have ended."""
    sessions: set[int] = set()
    for line in lines:
        match line.rstrip("\n").split(" ", 2):
            case ["+", session]:
                sessions.add(int(session))
            case ["-", session]:
                sessions.discard(int(session))
            case ["shm", inode, path]:
                ledger.noted.add(Segment(path, int(inode)))
    return sessions


if __name__ == "__main__":
    main(sys.argv[1:])
