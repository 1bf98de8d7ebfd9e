"""Linux's leave to wake a thread later than it asked for, together with others."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# From linux/prctl.h.
PR_SET_TIMERSLACK = 29
PR_GET_TIMERSLACK = 30


@contextmanager
def timer_slack(seconds: float) -> Iterator[None]:
    """For this thread, and for good for the threads that it starts meanwhile.

    Only waits that end by their timeout are stretched; what they wait for wakes them as before.
    """
    if sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
    prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(int(seconds * 1e9)), 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(before), 0, 0, 0)
