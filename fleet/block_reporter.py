"""Tells the fleet what blocks a worker holds, for as long as the worker lives."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import NoReturn

from fleet.backoff import Backoff
from fleet.block_log import BlockLog
from fleet.block_news import Snapshot
from fleet.contact import Contact
from fleet.errors import FleetUnavailable
from fleet.held_blocks import HeldBlocks
from fleet.registration import LEASE_SECONDS, RENEWALS_PER_LEASE

# News wait so long for more of them.
GATHER_SECONDS = 0.02
BLOCKS = "blocks"


class BlockReporter:
    """Sends the news of `held` while `run` runs; whoever changes `held` calls `note` then.

    An outage is told to `contact`, and followed by a new beginning (see `HeldBlocks`).
    """

    def __init__(
        self,
        log: BlockLog,
        held: HeldBlocks,
        lease_seconds: float = LEASE_SECONDS,
        backoff: Backoff | None = None,
        contact: Contact | None = None,
    ) -> None:
        self._log = log
        self._held = held
        self._lease_seconds = lease_seconds
        self._backoff = backoff or Backoff(last_seconds=lease_seconds / RENEWALS_PER_LEASE)
        self._contact = contact or Contact("nobody hears of this worker's blocks meanwhile")
        self._has_news = asyncio.Event()
        self._is_known = False
        self._snapshot_number = -1
        self._renewed_at = 0.0

    def note(self) -> None:
        """There may be news."""
        self._has_news.set()

    async def run(self) -> NoReturn:
        """Endless. When it is cancelled, the worker's snapshot is dropped."""
        try:
            while True:
                pause = await self._report()
                await asyncio.sleep(pause)
        finally:
            with suppress(FleetUnavailable):
                await self._log.drop(self._held.worker)

    async def _report(self) -> float:
        """All that is to be told now; how long to wait before the next time."""
        try:
            await self._wait()
            if not self._is_known or self._held.has_given_up:
                await self._begin_again()
            while batch := self._held.take_batch():
                await self._log.tell(batch)
            await self._renew()
        except FleetUnavailable as outage:
            return self._note_outage(outage)
        self._note_contact()
        return GATHER_SECONDS

    async def _wait(self) -> None:
        """For news, or until the snapshot wants renewal."""
        if not self._is_known:
            return
        left = self._renewed_at + self._lease_seconds / RENEWALS_PER_LEASE - time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left)):
                await self._has_news.wait()
        self._has_news.clear()

    async def _begin_again(self) -> None:
        self._is_known = False
        snapshot, batch = self._held.begin_again()
        await self._put(snapshot)
        await self._log.tell(batch)
        self._is_known = True

    async def _renew(self) -> None:
        """The log is cut one day, so a snapshot that is behind it is replaced."""
        if time.monotonic() < self._renewed_at + self._lease_seconds / RENEWALS_PER_LEASE:
            return
        is_behind = self._snapshot_number < self._held.number
        if is_behind or not await self._log.renew(self._held.worker, self._lease_seconds):
            await self._put(self._held.snapshot())
        self._renewed_at = time.monotonic()

    async def _put(self, snapshot: Snapshot) -> None:
        await self._log.put(snapshot, self._lease_seconds)
        self._snapshot_number, self._renewed_at = snapshot.number, time.monotonic()

    def _note_outage(self, outage: FleetUnavailable) -> float:
        self._contact.lost(BLOCKS, outage)
        self._is_known = False
        return self._backoff.next()

    def _note_contact(self) -> None:
        self._contact.made(BLOCKS)
        self._backoff.reset()
