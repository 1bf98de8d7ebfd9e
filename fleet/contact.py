"""Whether the fleet's state can be reached: one account of it for a whole process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fleet.errors import FleetUnavailable

logger = logging.getLogger(__name__)


class Contact:
    """Everyone who calls the server tells it, under a name of its own; it logs each outage once.

    An outage begins with the first one whose call fails and ends when nobody's fails any more.
    `meanwhile` says what the process does until then.
    """

    def __init__(self, meanwhile: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._meanwhile = meanwhile
        self._clock = clock
        self._cut_off: set[str] = set()
        self._since = 0.0
        self._past_seconds = 0.0
        self._tell: Callable[[Contact], None] = lambda contact: None

    @property
    def is_made(self) -> bool:
        return not self._cut_off

    @property
    def outage_seconds(self) -> float:
        """For how long it has been lost; 0 if it is made."""
        return 0.0 if self.is_made else self._clock() - self._since

    @property
    def total_outage_seconds(self) -> float:
        """All outages of this process together, with the one under way."""
        return self._past_seconds + self.outage_seconds

    def listen(self, tell: Callable[[Contact], None]) -> None:
        """`tell` is called now, when it is lost or made, and at each try while it is lost."""
        self._tell = tell
        tell(self)

    def lost(self, who: str, outage: FleetUnavailable) -> None:
        """A call of theirs has failed."""
        if self.is_made:
            self._since = self._clock()
            logger.warning("%s; %s", outage, self._meanwhile)
        self._cut_off.add(who)
        self._tell(self)

    def made(self, who: str) -> None:
        """A call of theirs has succeeded."""
        if self._cut_off == {who}:
            self._past_seconds += self.outage_seconds
            logger.warning("fleet state is back after %.1f s", self.outage_seconds)
            self._cut_off.clear()
            self._tell(self)
        self._cut_off.discard(who)

    def __repr__(self) -> str:
        return f"<Contact {'made' if self.is_made else f'lost for {self.outage_seconds:.0f} s'}>"
