"""What hand-off saves, by requests that chance alone sent one way or the other, for control."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from gateway.routing.way import Way

LEARNING = 0.05
# Fewer requests for control tell nothing.
LEAST_CONTROLS = 3


@dataclass(slots=True)
class Mean:
    """One that forgets."""

    number: int = 0
    seconds: float = 0.0

    def learn(self, seconds: float) -> None:
        self.number += 1
        self.seconds += max(LEARNING, 1 / self.number) * (seconds - self.seconds)


class Gain:
    """By size of prompt, and by the way that was chosen for it before chance had its say."""

    def __init__(self) -> None:
        self._means: defaultdict[tuple[int, Way], dict[Way, Mean]] = defaultdict(
            lambda: {way: Mean() for way in Way}
        )

    def learn(self, size: int, chosen: Way, way: Way, ttft_seconds: float) -> None:
        self._means[size, chosen][way].learn(ttft_seconds)

    def seconds(self) -> float | None:
        """TTFT that hand-off saves a request, by how often each kind came; None: not known."""
        saved, num_requests, num_controls = 0.0, 0, 0
        for (_, chosen), means in self._means.items():
            remote, local = means[Way.REMOTE], means[Way.LOCAL]
            if remote.number and local.number:
                number = remote.number + local.number
                saved += number * (local.seconds - remote.seconds)
                num_requests += number
                num_controls += means[chosen.other].number
        return saved / num_requests if num_controls >= LEAST_CONTROLS else None
