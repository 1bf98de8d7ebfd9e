"""How long answers become, learned from those that have ended."""

from __future__ import annotations

import numpy as np

BUCKETS = 24  # powers of 2**0.75 tokens
STEP = 0.75
QUANTILE = 0.95
FIRST_GUESS = 512
FORGETTING = 0.995
ENOUGH = 20.0


class OutputLengths:
    """A histogram that forgets. Not for requests that were cut off by their own limit."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS)

    def observe(self, num_tokens: int) -> None:
        self._counts *= FORGETTING
        self._counts[min(BUCKETS - 1, int(np.log2(max(1, num_tokens)) / STEP))] += 1

    @property
    def expected(self) -> int:
        """What 95 of 100 do not exceed, in tokens."""
        total = self._counts.sum()
        if total < ENOUGH:
            return FIRST_GUESS
        bucket = int(np.searchsorted(np.cumsum(self._counts), QUANTILE * total))
        return int(np.ceil(2 ** (STEP * (bucket + 1))))
