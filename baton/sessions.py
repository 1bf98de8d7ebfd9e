"""Sessions of processes: a child of ours, which leads one, and all that it started.

A session holds more than a process group: a grandchild that makes a group of its own,
as engine cores may, still belongs to it.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from baton.identity import PROC, ProcessStat

PASS_SECONDS = 0.02
# A process that even SIGKILL cannot end is left to the kernel.
MAX_PASSES = 500


def members(session: int) -> tuple[int, ...]:
    """The living processes of the session whose leader has, or had, this pid."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    return tuple(pid for pid in pids if is_member(pid, session))


def is_member(pid: int, session: int) -> bool:
    stat = ProcessStat.read(pid)
    return bool(stat and stat.session == session and not stat.is_dead)


def kill(session: int) -> bool:
    """SIGKILL to every member; whether there was any.

    Repeat until there was none: members may be born while it works.
    """
    pids = members(session)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def end(session: int) -> None:
    """SIGKILL until nobody is left, or until that has taken too long."""
    for _ in range(MAX_PASSES):
        if not kill(session):
            return
        time.sleep(PASS_SECONDS)
