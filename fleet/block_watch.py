"""Keeps a gateway's replica of the blocks that workers hold up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import NoReturn

from fleet.backoff import Backoff
from fleet.block_log import FollowedLog, Reading
from fleet.block_replica import BlockReplica
from fleet.contact import Contact
from fleet.errors import FleetUnavailable
from fleet.watch import GOING_ON

READ_SECONDS = 1.0
ASK_SECONDS = 1.0
# Snapshots in one answer.
ASKED_AT_ONCE = 8
# What a worker told after its snapshot: it replaces one that is behind much sooner.
LOOK_BACK_SECONDS = 10.0
# Steps of cleaning between two readings, each of about a millisecond.
CLEANING_STEPS = 4
# Batches of the log that are heard without a turn for others.
HEARD_AT_ONCE = 16
BLOCKS = "blocks"

logger = logging.getLogger(__name__)


class BlockWatch:
    """Reads the log while `run` runs. While the server is away, the replica stays as it is.

    `meet` and `part` tell of the workers that are in the fleet. `is_current`: the last reading
    succeeded, and nothing is missing.
    """

    def __init__(
        self,
        log: FollowedLog,
        replica: BlockReplica | None = None,
        backoff: Backoff | None = None,
        contact: Contact | None = None,
    ) -> None:
        self.replica = replica or BlockReplica()
        self._log = log
        self._backoff = backoff or Backoff()
        self._contact = contact or Contact(GOING_ON)
        self._place: str | None = None
        self._wanted: dict[str, float] = {}  # from when on to ask for its snapshot
        self._is_reached = False

    @property
    def is_current(self) -> bool:
        return self._is_reached and not self._wanted

    async def lag_seconds(self) -> float:
        """How far behind the log this replica is. Raises FleetUnavailable."""
        return await self._log.lag_seconds(self._place) if self._place else 0.0

    def meet(self, worker: str) -> None:
        """It is in the fleet."""
        self.replica.meet(worker)
        self._wanted.setdefault(worker, 0.0)
        self._place = None

    def part(self, worker: str) -> None:
        """It has left the fleet."""
        self.replica.part(worker)
        self._wanted.pop(worker, None)

    async def run(self) -> NoReturn:
        """Endless."""
        while True:
            try:
                await self._read()
            except FleetUnavailable as outage:
                await asyncio.sleep(self._note_outage(outage))
            else:
                self._note_contact()

    async def _read(self) -> None:
        """The place is noted before snapshots are taken, so that nothing falls in between.

        For whom it meets, it goes back: what was read before was not about those it knew.
        """
        if self._place is None:
            self._place = await self._log.end(LOOK_BACK_SECONDS)
        place = self._place
        await self._ask()
        reading = await self._log.read(place, 0.0 if self._clean() else READ_SECONDS)
        if self._place is not None:
            self._place = reading.place
        await self._take(reading)

    async def _ask(self) -> None:
        now = time.monotonic()
        due = [worker for worker, at in self._wanted.items() if at <= now]
        for first in range(0, len(due), ASKED_AT_ONCE):
            await self._ask_for(due[first : first + ASKED_AT_ONCE])

    async def _ask_for(self, workers: Sequence[str]) -> None:
        """Other tasks have a turn after each, as a snapshot may be a million blocks."""
        for snapshot in await self._log.snapshots(workers):
            self.replica.learn(snapshot)
            await asyncio.sleep(0)
        now = time.monotonic()
        for worker in workers:
            if self.replica.is_whole(worker):
                self._wanted.pop(worker, None)
            elif worker in self._wanted:
                self._wanted[worker] = now + ASK_SECONDS

    async def _take(self, reading: Reading) -> None:
        """Other tasks have a turn now and then: after an outage there is much to hear."""
        for number, batch in enumerate(reading.batches, 1):
            if number % HEARD_AT_ONCE == 0:
                await asyncio.sleep(0)
            if not self.replica.hear(batch):
                self._wanted.setdefault(batch.worker, 0.0)
        if reading.has_gap:
            logger.warning("the log of blocks has been cut or lost: reading all snapshots again")
            self._wanted |= dict.fromkeys(self.replica.rows, 0.0)
            for worker in self.replica.rows:
                self.replica.doubt(worker)

    def _clean(self) -> bool:
        """A few steps. False if nothing is left to do."""
        return all(self.replica.clean() for _ in range(CLEANING_STEPS))

    def _note_outage(self, outage: FleetUnavailable) -> float:
        self._contact.lost(BLOCKS, outage)
        self._is_reached = False
        return self._backoff.next()

    def _note_contact(self) -> None:
        self._contact.made(BLOCKS)
        self._backoff.reset()
        self._is_reached = True
