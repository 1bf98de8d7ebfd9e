"""The two ways of a prompt, what is forecast of each, and what that costs by the goals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Shorter times are all alike.
LEAST_SECONDS = 1e-4
# What is missed of a goal, as a share of it, makes a request cost so many times as much.
EXCESS = 100.0


class Way(StrEnum):
    REMOTE = "remote"  # a prefill worker computes the prompt
    LOCAL = "local"  # the decode worker does

    @property
    def other(self) -> Way:
        return Way.LOCAL if self is Way.REMOTE else Way.REMOTE


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one way. `itl_seconds`: the mean time between two tokens where it is decoded, with what
    all streams there lose to this prompt; `gap_seconds`: the longest gap that it puts into them;
    `wait_seconds`: of the time to the first token, until somebody is free to compute.
    """

    ttft_seconds: float
    itl_seconds: float
    gap_seconds: float = 0.0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Slo:
    """Goals: to the first token, and from one to the next."""

    ttft_seconds: float = 2.0
    itl_seconds: float = 0.2

    def cost(self, ttft_seconds: float, forecast: Forecast, excess: float = EXCESS) -> float:
        """1 where both goals are just met. Half the time to the first token is worth as much as
        half the time between tokens; what is missed of a goal counts `excess` times.
        """
        ttft = max(LEAST_SECONDS, ttft_seconds) / self.ttft_seconds
        itl = max(LEAST_SECONDS, forecast.itl_seconds) / self.itl_seconds
        longest = max(itl, forecast.gap_seconds / self.itl_seconds)
        missed = max(0.0, ttft - 1) + max(0.0, longest - 1)
        return ttft * itl * (1 + excess * missed)
