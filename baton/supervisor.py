"""What to do when a process is ready or ends, and in what order to stop.

Decides; starts, waits and kills nothing. `now` is in seconds of any steady clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.backoff import Backoff

FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 30.0
# After so long in service, a death counts as the first one again.
STEADY_SECONDS = 60.0


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # for its next start
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Restart:
    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The fleet had not come up yet: what fails now is for the user to mend."""


@dataclass(slots=True)
class Watched:
    name: str
    tier: int
    phase: Phase = Phase.WAITING
    since: float = 0.0
    restarts: int = 0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, jitter=False)
    )

    def enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self.since = now


class Supervisor:
    """Every process by name, with its tier: lower tiers stop first."""

    def __init__(self, tiers: Iterable[tuple[str, int]]) -> None:
        self._watched = {name: Watched(name, tier) for name, tier in tiers}
        self.is_up = False
        self.is_stopping = False

    def started(self, name: str, now: float) -> None:
        self._watched[name].enter(Phase.STARTING, now)

    def ready(self, name: str, now: float) -> float:
        """How long the start took, in seconds."""
        watched = self._watched[name]
        took = now - watched.since
        watched.enter(Phase.READY, now)
        self.is_up = self.is_up or all(w.phase is Phase.READY for w in self._watched.values())
        return took

    def exited(self, name: str, now: float) -> Restart | GiveUp:
        watched = self._watched[name]
        was_steady = watched.phase is Phase.READY and now - watched.since >= STEADY_SECONDS
        watched.enter(Phase.WAITING, now)
        if not self.is_up or self.is_stopping:
            watched.enter(Phase.STOPPED, now)
            return GiveUp()
        if was_steady:
            watched.backoff.reset()
        watched.restarts += 1
        return Restart(watched.backoff.next())

    def stop(self) -> tuple[tuple[str, ...], ...]:
        """The order to stop in: one group of names after the other, each group at once."""
        self.is_stopping = True
        tiers = sorted({watched.tier for watched in self._watched.values()})
        return tuple(
            tuple(name for name, watched in self._watched.items() if watched.tier == tier)
            for tier in tiers
        )

    def stopped(self, name: str, now: float) -> None:
        self._watched[name].enter(Phase.STOPPED, now)

    def waiting_for(self) -> tuple[str, ...]:
        """Who is not ready."""
        return tuple(w.name for w in self._watched.values() if w.phase is not Phase.READY)

    def phase(self, name: str) -> Phase:
        return self._watched[name].phase

    def restarts(self, name: str) -> int:
        return self._watched[name].restarts

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other."""
        for watched in self._watched.values():
            assert watched.restarts >= watched.backoff.failures, watched
            assert self.is_up or not watched.restarts, watched
            assert watched.phase is not Phase.STOPPED or self.is_stopping or not self.is_up

    def __repr__(self) -> str:
        counts = [f"{sum(w.phase is p for w in self._watched.values())} {p}" for p in Phase]
        return f"<Supervisor {', '.join(c for c in counts if not c.startswith('0 '))}>"
