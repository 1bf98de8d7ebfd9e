"""Ends tickets in time, whatever else happens or does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from worker.interface import Engine
from worker.ticket_ledger import OpenTicket, TicketLedger

TICK_SECONDS = 0.5
# An engine answers between steps; the next tick asks again.
REPORT_SECONDS = 2.0

logger = logging.getLogger(__name__)


class TicketKeeper:
    """While `run` runs: a lease that has ended is revoked in the engine, and while a prefill
    leg that has ended may still hold KV, the engine is asked. Sleeps while no ticket is open.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: TicketLedger,
        report: Callable[[], Awaitable[object]],
        clock: Callable[[], float],
    ) -> None:
        """`report` has the engine say what it holds, and passes that on to the ledger."""
        self._engine = engine
        self._ledger = ledger
        self._report = report
        self._clock = clock
        self._opened = asyncio.Event()

    def opened(self) -> None:
        """There is a ticket."""
        self._opened.set()

    async def run(self) -> NoReturn:
        """Ends by EngineLost, or by cancellation."""
        while True:
            await self._opened.wait()
            while self._ledger.has_open:
                await asyncio.sleep(TICK_SECONDS)
                await self.tick()
            self._opened.clear()

    async def tick(self) -> None:
        late = self._ledger.overdue(self._clock())
        await asyncio.gather(*map(self._end, late))
        if self._ledger.is_settling:
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._report()

    async def _end(self, ticket: OpenTicket) -> None:
        logger.info("the lease of ticket %s has ended", ticket.id.hex()[:8])
        await self._engine.revoke(ticket.id, "the lease has ended")
