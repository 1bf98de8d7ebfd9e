"""A worker's stay in the fleet."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

from fleet.backoff import Backoff
from fleet.errors import FleetUnavailable, Superseded
from fleet.member import Member
from fleet.membership import Membership

LEASE_SECONDS = 10.0
RENEWALS_PER_LEASE = 3

logger = logging.getLogger(__name__)


class Registration:
    """An async context manager: `member` is in the fleet while the body runs.

    Entering raises FleetUnavailable if the first join fails. From then on an outage is
    logged once and outlived: the member is back as soon as the server is. `lost` is set
    when the stay ends before the body does: another incarnation took the place.
    """

    def __init__(
        self,
        membership: Membership,
        member: Member,
        lease_seconds: float = LEASE_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self.member = member
        self.lost = asyncio.Event()
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
        if self._renewing and self._renewing.cancel():
            await asyncio.wait([self._renewing])
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
        pause = self._lease_seconds / RENEWALS_PER_LEASE
        while True:
            await asyncio.sleep(pause)
            try:
                await self._membership.renew(self.member, self._lease_seconds)
            except FleetUnavailable as outage:
                self._note_outage(outage)
                pause = self._backoff.next()
            else:
                self._note_contact()
                pause = self._lease_seconds / RENEWALS_PER_LEASE

    def _note_outage(self, outage: FleetUnavailable) -> None:
        if not self._backoff.failures:
            logger.warning("%s; %s goes on and keeps trying", outage, self.member.worker_id)

    def _note_contact(self) -> None:
        if self._backoff.failures:
            logger.warning("fleet state is back; %s is registered", self.member.worker_id)
        self._backoff.reset()

    async def _leave(self) -> None:
        try:
            await self._membership.leave(self.member)
        except FleetUnavailable as outage:
            logger.warning("%s; the lease of %s runs out", outage, self.member.worker_id)
