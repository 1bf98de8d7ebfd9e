"""One answer to a prompt whose prefill is done elsewhere, in times that a client sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import median
from typing import Self

from loadtest.hand_off import HandOff


@dataclass(frozen=True, slots=True)
class Sample:
    """prefill: the prefill leg's own time. first_token: TTFT. step: from token to token."""

    prefill_seconds: float
    first_token_seconds: float
    step_seconds: float

    @classmethod
    def of(cls, found: HandOff) -> Self:
        return cls(found.prefill_seconds, found.first_token_seconds, found.step_seconds)

    @property
    def exposed_seconds(self) -> float:
        """What moving the KV adds to a first token."""
        return self.first_token_seconds - self.prefill_seconds - self.step_seconds

    @property
    def ready_seconds(self) -> float:
        """TTFT less one decode step."""
        return self.first_token_seconds - self.step_seconds


def medians(samples: Sequence[Sample]) -> Sample:
    """Of each time by itself."""
    return Sample(*(median(values) for values in zip(*map(astuple, samples), strict=True)))
