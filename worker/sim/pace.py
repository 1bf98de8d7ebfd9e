"""Runs a timeline in real time."""

from __future__ import annotations

import asyncio
import logging
import time

from worker.sim.timeline import Timeline

# Others get their turn after so long.
TURN_SECONDS = 0.005
# A process that is so far behind is told of, and not more often than this.
LAG_SECONDS = 1.0
WARN_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Pace:
    """Makes each call when it is due, while `run` runs; later where the process is too busy.

    The timeline's clock is `time.monotonic`.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._timer: asyncio.Handle | None = None
        self._ended: asyncio.Future[None] | None = None
        self._warned_at = -WARN_SECONDS
        timeline.on_sooner = lambda when: self._arm()

    async def run(self) -> None:
        """Ends by what a call raises, or by cancellation."""
        self._ended = asyncio.get_running_loop().create_future()
        try:
            self._arm()
            await self._ended
        finally:
            if self._timer:
                self._timer.cancel()
            self._ended = None

    def _arm(self) -> None:
        if self._ended is None or self._ended.done():
            return
        if self._timer:
            self._timer.cancel()
            self._timer = None
        when, loop = self._timeline.next_at, asyncio.get_running_loop()
        pause = when - time.monotonic()
        if pause <= 0:
            self._timer = loop.call_soon(self._turn)
        elif when < float("inf"):
            self._timer = loop.call_later(pause, self._turn)

    def _turn(self) -> None:
        assert self._ended is not None
        self._timer = None
        began = now = time.monotonic()
        self._note_lag(now)
        try:
            while self._timeline.next_at <= now < began + TURN_SECONDS:
                self._timeline.run_next()
                now = time.monotonic()
        except Exception as error:
            self._ended.set_exception(error)
        self._arm()

    def _note_lag(self, now: float) -> None:
        lag = now - self._timeline.next_at
        if lag > LAG_SECONDS and now > self._warned_at + WARN_SECONDS:
            self._warned_at = now
            logger.warning("too much is simulated for this processor: %.1f s behind", lag)
