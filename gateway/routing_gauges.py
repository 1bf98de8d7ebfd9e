"""The queue, the index and the gain of hand-off, as gauges."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from prometheus_client import CollectorRegistry, Gauge

from fleet.block_watch import BlockWatch
from gateway.routing.dispatcher import Dispatcher

EVERY_SECONDS = 1.0
UNKNOWN = float("nan")


class RoutingGauges:
    """Read while `run` runs: of several processes, one cannot look into another."""

    def __init__(
        self, registry: CollectorRegistry, dispatcher: Dispatcher, blocks: BlockWatch
    ) -> None:
        self._dispatcher = dispatcher
        self._blocks = blocks
        self._requests = Gauge(
            "baton_queue_requests",
            "Sequences that wait in the gateway for a worker",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._seconds = Gauge(
            "baton_queue_seconds",
            "Work that waits with them: the time it is predicted to take one worker",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._entries = Gauge(
            "baton_index_entries",
            "Blocks in the prefix index, each as often as it is held; of the fullest process",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._is_current = Gauge(
            "baton_index_is_current",
            "1 if the index follows the log of blocks and lacks nothing, in every process",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._gain = Gauge(
            "baton_disaggregation_gain_seconds",
            "TTFT that hand-off saves a request as measured; NaN: not known; each process its own",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self.read()

    async def run(self) -> NoReturn:
        """Endless."""
        while True:
            self.read()
            await asyncio.sleep(EVERY_SECONDS)

    def read(self) -> None:
        gain = self._dispatcher.router.decider.gain_seconds()
        self._requests.set(self._dispatcher.num_waiting)
        self._seconds.set(float(self._dispatcher.table.columns.queued_seconds.sum()))
        self._entries.set(self._blocks.replica.table.num_entries)
        self._is_current.set(self._blocks.is_current)
        self._gain.set(UNKNOWN if gain is None else gain)
