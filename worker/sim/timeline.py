"""What happens when, on one clock for all simulated workers of a process."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

Call = Callable[[], None]


class Timeline:
    """Calls in the order of their times, and of their coming for equal times.

    `clock` and all times are in seconds. `on_sooner` is told when the next time has become a
    sooner one.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: list[tuple[float, int, Call]] = []
        self._numbers = count()
        self._now: float | None = None
        self.on_sooner: Callable[[float], None] = lambda when: None

    @property
    def now(self) -> float:
        """During a call the time that it was due at."""
        return self._clock() if self._now is None else self._now

    @property
    def next_at(self) -> float:
        return self._calls[0][0] if self._calls else math.inf

    def call_at(self, when: float, call: Call) -> None:
        soonest = self.next_at
        heapq.heappush(self._calls, (when, next(self._numbers), call))
        if when < soonest and self._now is None:
            self.on_sooner(when)

    def call_soon(self, call: Call) -> None:
        self.call_at(self.now, call)

    def run_next(self) -> None:
        """The next call, whether it is due or not."""
        self._now, _, call = heapq.heappop(self._calls)
        try:
            call()
        finally:
            self._now = None

    def __repr__(self) -> str:
        return f"<Timeline: {len(self._calls)} calls>"
