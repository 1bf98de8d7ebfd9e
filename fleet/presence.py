"""Who is taken to be present, from what was listed and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet.member import Member


@dataclass(frozen=True, slots=True)
class Change:
    """Members that came and members that went. A restarted worker is in both."""

    joined: tuple[Member, ...] = ()
    left: tuple[Member, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.joined or self.left)


@dataclass(slots=True)
class Presence:
    """Turns listings into changes; knows nothing of servers and clocks.

    A server that lost its state lists nobody until the workers have renewed. So after an
    outage, or when all vanish at once, a missing member is kept for `grace_seconds`.
    """

    grace_seconds: float
    present: dict[str, Member] = field(default_factory=dict)
    _doubtful_until: float = field(default=float("-inf"))

    def lost_contact(self) -> None:
        """No listing could be had. Nothing is known to have changed."""
        self._doubtful_until = float("inf")

    def observe(self, listed: Iterable[Member], now: float) -> Change:
        """What changed since the last listing. `now` is in seconds of any steady clock."""
        seen = {member.worker_id: member for member in listed}
        self._doubt(seen, now)
        missing = () if now < self._doubtful_until else tuple(self.present.keys() - seen.keys())
        renewed = [m for name, m in seen.items() if self.present.get(name) != m]
        replaced = [self.present[m.worker_id] for m in renewed if m.worker_id in self.present]
        gone = [self.present.pop(name) for name in sorted(missing)]
        self.present.update({member.worker_id: member for member in renewed})
        return Change(joined=tuple(renewed), left=tuple(replaced + gone))

    def _doubt(self, seen: dict[str, Member], now: float) -> None:
        after_outage = self._doubtful_until == float("inf")
        all_vanished = bool(self.present) and not self.present.keys() & seen.keys()
        if self.present.keys() <= seen.keys():
            self._doubtful_until = float("-inf")
        elif after_outage or (all_vanished and self._doubtful_until == float("-inf")):
            self._doubtful_until = now + self.grace_seconds
