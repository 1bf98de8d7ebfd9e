"""Becomes another program, bound to its cores and to the life of its parent.

    python launch.py PARENT_PID CORE[,CORE...] PROGRAM [ARGUMENT...]

A step of its own, because code that runs between fork and exec in a process with threads
may deadlock. It imports the standard library only, and little of it: each start pays for it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int, death_signal: int = signal.SIGKILL) -> None:
    """Have the kernel send this process `death_signal` when its parent ends.

    Exits if the parent has ended already. The setting survives exec, not fork.
    """
    set_death_signal(death_signal)
    if os.getppid() != parent_pid:
        sys.exit(1)


def set_death_signal(death_signal: int) -> None:
    """0 takes it back. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def main(arguments: list[str]) -> None:
    parent_pid, cores, *command = arguments
    die_with(int(parent_pid))
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
