"""A program that ends in time, and cleans up however it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class TooLong(Exception):
    """The whole program took longer than it may."""


@contextmanager
def bounded(minutes: float) -> Iterator[None]:
    """Raises TooLong in the block after so long, and KeyboardInterrupt at SIGTERM and SIGHUP.

    For the main thread.
    """

    def end(number: int, frame: object) -> NoReturn:
        raise TooLong(f"not done after {minutes:.0f} minutes")

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
