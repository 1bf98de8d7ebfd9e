"""Growing pauses between tries."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Pauses that double from `first_seconds` to `last_seconds`.

    With `jitter`, each is drawn from its upper half, so that many do not try in step.
    """

    first_seconds: float = 0.25
    last_seconds: float = 5.0
    jitter: bool = True
    failures: int = field(default=0, init=False)

    def next(self) -> float:
        """The pause after one more failure, in seconds."""
        # The exponent is bounded because 2.0**failures would overflow one day.
        pause = min(self.first_seconds * 2.0 ** min(self.failures, 32), self.last_seconds)
        self.failures += 1
        return random.uniform(pause / 2, pause) if self.jitter else pause

    def reset(self) -> None:
        self.failures = 0
