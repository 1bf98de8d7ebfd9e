"""Which prompts a worker can start now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway.routing.fleet_table import FleetTable

# A worker gets its next prompt so long before it has computed the last one.
AHEAD_SECONDS = 0.03
# Prompts that one step can compute go beside a long one, up to so many.
MAX_BESIDE = 4


@dataclass(frozen=True, slots=True)
class Room:
    """A prompt is short if one step can compute it: up to `step_tokens` that are not cached. Of
    these, those up to `short_tokens` are taken.
    """

    step_tokens: float = np.inf
    short_tokens: float = np.inf
    takes_long: bool = True

    @classmethod
    def of(cls, table: FleetTable, row: int, now: float) -> Room:
        columns = table.columns
        if not columns.num_prefills[row] or columns.busy_until[row] - now <= AHEAD_SECONDS:
            return cls()
        step_tokens = float(columns.step_tokens[row])
        left = step_tokens - float(columns.short_tokens[row])
        num_short = columns.num_prefills[row] - columns.num_long[row]
        short_tokens = step_tokens if num_short < MAX_BESIDE else left
        # One at a time, beside short ones.
        return cls(step_tokens, short_tokens, bool(not columns.num_long[row] and left >= 0))

    def takes(self, num_tokens: int) -> bool:
        """A prompt of which so much is not cached."""
        return self.takes_long if num_tokens > self.step_tokens else num_tokens <= self.short_tokens

    @property
    def is_none(self) -> bool:
        return not self.takes_long and self.short_tokens <= 0
