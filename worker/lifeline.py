"""Ties an engine's process to the life of the worker that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends.

    Exits at once if the parent has ended already. vLLM's engine core ignores SIGTERM for
    as long as it works, so nothing less than SIGKILL is sure.

    The kernel counts the thread that forked as the parent: that must be one that lasts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit(1)
