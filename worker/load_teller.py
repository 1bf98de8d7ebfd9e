"""Tells the gateways how loaded this worker is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from proto import worker_pb2
from worker.errors import EngineLost
from worker.load import Load
from worker.outbox import Outbox
from worker.ticket_ledger import TicketCounts, TicketLedger

NEWS_SECONDS = 0.1


class LoadTeller:
    """The last reading, told to every outbox when it or the tickets have changed: at most once
    in NEWS_SECONDS, and the last one always.
    """

    def __init__(
        self,
        tickets: TicketLedger,
        clock: Callable[[], float],
        outboxes: Callable[[], Iterable[Outbox]],
        reserved_tokens: Callable[[], int],
    ) -> None:
        self._tickets = tickets
        self._reserved_tokens = reserved_tokens
        self._clock = clock
        self._outboxes = outboxes
        self._load = Load()
        self._told = self._state()
        self._moves_no_kv = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Ends by EngineLost when the engine can move no KV any more, or by cancellation."""
        try:
            await self._moves_no_kv.wait()
        finally:
            if self._pause:
                self._pause.cancel()
        raise EngineLost("its KV transfer thread has failed; its log says why")

    def read(self, load: Load) -> None:
        """This is how loaded the engine is now."""
        self._load = load
        if load.transfers.failed_threads:
            self._moves_no_kv.set()
        self.tell()

    def tell(self) -> None:
        """The tickets may have changed."""
        state = self._state()
        if self._pause is not None or state == self._told:
            return
        self._told = state
        report = self.report()
        for outbox in self._outboxes():
            outbox.put_load(report)
        self._pause = asyncio.get_running_loop().call_later(NEWS_SECONDS, self._end_pause)

    @property
    def last(self) -> Load:
        """The last reading."""
        return self._load

    def report(self) -> worker_pb2.LoadReport:
        report = self._load.to_proto()
        report.tickets.CopyFrom(self._tickets.counts().to_proto(self._clock()))
        report.num_reserved_tokens = self._reserved_tokens()
        return report

    def _state(self) -> tuple[Load, TicketCounts, int]:
        return self._load, self._tickets.counts(), self._reserved_tokens()

    def _end_pause(self) -> None:
        self._pause = None
        self.tell()
