"""How fast KV gets from one worker to another, as seen from here: by pair, not by topology."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray

from gateway.routing.columns import Floats

LEARNING = 0.3
# Hand-offs of less than this share of the mean one are small.
LEAST_SHARE = 0.5
BYTES_LEARNING = 0.05
# KV that comes later than this after its prefill was held up by the link.
HELD_UP_SHARE = 0.1
HELD_UP_SECONDS = 0.03
# A link that holds nothing up is taken to be so much faster, each time.
RELIEF = 1.2
# Of the last so many hand-offs, the middle one stands for pairs that have had none.
MAX_LATEST = 64
UNLIMITED = np.inf


class PairTable:
    """Bytes a second by rows of the fleet's table; 0: not known; infinite: never the limit."""

    def __init__(self) -> None:
        self._rates: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._latest: deque[float] = deque(maxlen=MAX_LATEST)
        self._mean_bytes = 0.0
        # Pairs without a limit that were held up the last time, with what that would make it.
        self._suspects: dict[tuple[int, int], float] = {}

    def observe(
        self,
        source: int,
        target: int,
        num_bytes: float,
        prefill_seconds: float,
        late_seconds: float,
    ) -> None:
        """KV was moved while it was computed, and was there `late_seconds` after that.

        Once is no proof: the target may have been busy. Small ones prove nothing, late or not.
        What held nothing up says something only where the link was taken to be slower than that.
        """
        if num_bytes <= 0 or prefill_seconds <= 0:
            return
        self._reach(max(source, target))
        self._mean_bytes += BYTES_LEARNING * (num_bytes - self._mean_bytes)
        if num_bytes < LEAST_SHARE * self._mean_bytes:
            return
        pair = source, target
        own = float(self._rates[pair])
        seen = num_bytes / (prefill_seconds + max(0.0, late_seconds))
        limit = self._suspects.get(pair, own or self._typical())
        if is_held_up(late_seconds, prefill_seconds):
            if own not in (0, UNLIMITED):
                self._learn(pair, own + LEARNING * (seen - own))
            elif pair in self._suspects:
                self._learn(pair, max(limit, seen))
            else:
                self._suspects[pair] = seen
        elif is_held_up(num_bytes / limit - prefill_seconds, prefill_seconds):
            self._learn(pair, max(RELIEF * own, seen) if own else UNLIMITED)
        elif limit == UNLIMITED:
            self._learn(pair, UNLIMITED)

    def forget(self, row: int) -> None:
        """Another worker has the row."""
        self._suspects = {pair: rate for pair, rate in self._suspects.items() if row not in pair}
        if row < len(self._rates):
            self._rates[row] = 0
            self._rates[:, row] = 0

    def late_seconds(self, source: int, num_bytes: Floats, prefill_seconds: float) -> Floats:
        """For each target: how long after the prefill its KV of so many bytes will be there.

        A pair that is not known is taken to be like the middle one of those that are.
        """
        size = len(num_bytes)
        self._reach(max(source, size - 1))
        rates = self._rates[source, :size].astype(float)
        rates = np.where(rates > 0, rates, self._typical())
        late: Floats = np.maximum(0.0, num_bytes / rates - prefill_seconds)
        return late

    def rate(self, source: int, target: int) -> float:
        """Bytes a second; 0 if it is not known."""
        if max(source, target) >= len(self._rates):
            return 0.0
        return float(self._rates[source, target])

    def known(self) -> Iterator[tuple[int, int, float]]:
        """Source, target and rate of each pair that is known."""
        for source, target in np.argwhere(self._rates).tolist():
            yield source, target, self.rate(source, target)

    def _learn(self, pair: tuple[int, int], rate: float) -> None:
        self._suspects.pop(pair, None)
        self._rates[pair] = rate
        self._latest.append(rate)

    def _typical(self) -> float:
        return median(self._latest) if self._latest else UNLIMITED

    def _reach(self, row: int) -> None:
        size = len(self._rates)
        if row >= size:
            grown = np.zeros((2 * (row + 1), 2 * (row + 1)), np.float32)
            grown[:size, :size] = self._rates
            self._rates = grown


def is_held_up(late_seconds: float, prefill_seconds: float) -> bool:
    return late_seconds > max(HELD_UP_SECONDS, HELD_UP_SHARE * prefill_seconds)
