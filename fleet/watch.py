"""A gateway's view of who is in the fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from fleet.backoff import Backoff
from fleet.contact import Contact
from fleet.errors import FleetUnavailable
from fleet.member import Member
from fleet.membership import Membership
from fleet.presence import Change, Presence
from fleet.registration import LEASE_SECONDS

POLL_SECONDS = 1.0
MEMBERS = "members"
GOING_ON = "going on with the members and blocks that are known"


class MembershipWatch:
    """Polls one membership. While the server is away, keeps what it knows and tells `contact`.

    >>> async for change in MembershipWatch(membership).changes():
    ...     connect_to(change.joined)
    """

    def __init__(
        self,
        membership: Membership,
        poll_seconds: float = POLL_SECONDS,
        grace_seconds: float = LEASE_SECONDS,
        backoff: Backoff | None = None,
        contact: Contact | None = None,
    ) -> None:
        self.contact = contact or Contact(GOING_ON)
        self._membership = membership
        self._poll_seconds = poll_seconds
        self._presence = Presence(grace_seconds)
        self._backoff = backoff or Backoff(first_seconds=poll_seconds)
        self.is_current = False

    @property
    def members(self) -> tuple[Member, ...]:
        """Everyone taken to be present, by worker_id. `is_current`: the last poll succeeded."""
        return tuple(sorted(self._presence.present.values(), key=lambda m: m.worker_id))

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Each change as it is seen, never an empty one; endless. The first has everyone."""
        while True:
            change, pause = await self._poll()
            if change:
                yield change
            await asyncio.sleep(pause)

    async def _poll(self) -> tuple[Change, float]:
        try:
            listed = await self._membership.members()
        except FleetUnavailable as outage:
            return Change(), self._note_outage(outage)
        self._note_contact()
        return self._presence.observe(listed, time.monotonic()), self._poll_seconds

    def _note_outage(self, outage: FleetUnavailable) -> float:
        self.contact.lost(MEMBERS, outage)
        self.is_current = False
        self._presence.lost_contact()
        return self._backoff.next()

    def _note_contact(self) -> None:
        self.contact.made(MEMBERS)
        self._backoff.reset()
        self.is_current = True
