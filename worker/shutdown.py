"""When a worker process is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signal() -> None:
    """From now on SIGTERM and SIGINT end the process wherever it is, with exit code 0.

    For the start, which blocks the event loop: whatever was begun is cleaned up on the way.
    """
    for each in SIGNALS:
        signal.signal(each, leave)


def leave(signum: int, frame: FrameType | None) -> NoReturn:
    # A second signal must not interrupt the clean-up that the first one started.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(0)


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set instead."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for each in SIGNALS:
        loop.add_signal_handler(each, stop.set)
    try:
        yield stop
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_IGN)


def end_process(exit_code: int) -> NoReturn:
    """At once: with vLLM imported, Python's own finalization takes seconds."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
