"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.02


def wait_until(
    holds: Callable[[], object], seconds: float, complaint: Callable[[], str] = lambda: "too late"
) -> float:
    """How long it took. Raises AssertionError after `seconds`."""
    started_at = time.monotonic()
    while not holds():
        assert time.monotonic() - started_at < seconds, complaint()
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started_at
