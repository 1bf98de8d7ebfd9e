"""Warnings that somebody else can cause as often as they like."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

PAUSE_SECONDS = 60.0


class Complaints:
    """Logs one in PAUSE_SECONDS, and how many there were in between."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._next_at = float("-inf")
        self._num_kept = 0

    def add(self, text: str) -> None:
        now = self._clock()
        if now < self._next_at:
            self._num_kept += 1
            return
        more = f" (and {self._num_kept} more like it)" if self._num_kept else ""
        self._logger.warning("%s%s", text, more)
        self._next_at, self._num_kept = now + PAUSE_SECONDS, 0
