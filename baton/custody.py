"""What the children of a supervisor hold that could outlive them."""

from __future__ import annotations

from baton.guarded import Guard
from baton.segments import SegmentLedger
from baton.sessions import members


class Custody:
    """Their sessions and their shared memory; the guard knows of both."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._segments = SegmentLedger()

    def take(self, session: int) -> None:
        self._guard.began(session)

    def note(self, session: int) -> None:
        """See what its living processes use, to be repeated now and then."""
        for segment in self._segments.note(members(session)):
            self._guard.noted(segment)

    def release(self, session: int) -> None:
        """The session is empty: removes the shared memory that nobody else uses."""
        self._guard.ended(session)
        self._segments.sweep()
