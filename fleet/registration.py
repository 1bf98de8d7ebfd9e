"""A worker's stay in the fleet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fleet.backoff import Backoff
from fleet.contact import Contact
from fleet.errors import FleetUnavailable, Superseded
from fleet.member import Member
from fleet.member_load import MemberLoad
from fleet.membership import Membership

LEASE_SECONDS = 10.0
RENEWALS_PER_LEASE = 3
# A load that has changed is told so often at most.
LOAD_SECONDS = 1.0
# Whoever has not ended so long after it was cancelled is cancelled again.
CANCEL_SECONDS = 1.0
REGISTRATION = "registration"

logger = logging.getLogger(__name__)


class Registration:
    """An async context manager: `member` is in the fleet while the body runs.

    Entering raises FleetUnavailable if the first join fails. From then on an outage is told to
    `contact` and outlived: the member is back as soon as the server is. `lost` is set
    when the stay ends before the body does: another incarnation took the place.

    `load` reads how busy the member is; None if that is unknown.
    """

    def __init__(
        self,
        membership: Membership,
        member: Member,
        lease_seconds: float = LEASE_SECONDS,
        backoff: Backoff | None = None,
        contact: Contact | None = None,
        load: Callable[[], MemberLoad | None] = lambda: None,
    ) -> None:
        self.member = member
        self.lost = asyncio.Event()
        self._contact = contact or Contact(f"{member.worker_id} goes on and keeps trying")
        self._load = load
        self._told: MemberLoad | None = None
        self._membership = membership
        self._lease_seconds = lease_seconds
        self._backoff = backoff or Backoff(last_seconds=lease_seconds / RENEWALS_PER_LEASE)
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._membership.join(self.member, self._lease_seconds)
        self._renewing = asyncio.create_task(self._renew(), name="fleet-renewal")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._stop_renewing()
        finally:
            await self._leave()

    async def _stop_renewing(self) -> None:
        # One may be lost: `wait_for` of Python 3.11 can return instead of being cancelled.
        while self._renewing and self._renewing.cancel():
            await asyncio.wait([self._renewing], timeout=CANCEL_SECONDS)
        if self._renewing and not self._renewing.cancelled():
            self._renewing.result()

    async def _renew(self) -> None:
        try:
            await self._renew_until_superseded()
        except Superseded as error:
            logger.error("%s; this one (%s) stays out", error, self.member.incarnation)
        finally:
            self.lost.set()

    async def _renew_until_superseded(self) -> None:
        """A lease is renewed in time, and before, if there is another load to tell."""
        due = time.monotonic() + self._lease_seconds / RENEWALS_PER_LEASE
        while True:
            await asyncio.sleep(min(LOAD_SECONDS, max(0.0, due - time.monotonic())))
            load = self._load()
            if load != self._told or time.monotonic() >= due:
                due = time.monotonic() + await self._renew_once(load)

    async def _renew_once(self, load: MemberLoad | None) -> float:
        """In how many seconds the next renewal, or the next try, is due."""
        self._told = load
        try:
            await self._membership.renew(self.member, self._lease_seconds, load)
        except FleetUnavailable as outage:
            self._contact.lost(REGISTRATION, outage)
            return self._backoff.next()
        self._contact.made(REGISTRATION)
        self._backoff.reset()
        return self._lease_seconds / RENEWALS_PER_LEASE

    async def _leave(self) -> None:
        try:
            await self._membership.leave(self.member)
        except FleetUnavailable as outage:
            logger.warning("%s; the lease of %s runs out", outage, self.member.worker_id)
