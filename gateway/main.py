"""The gateway's composition root: the one place that builds and connects everything."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from fleet.errors import FleetError
from fleet.member import Member, new_incarnation
from fleet.redis_membership import RedisMembership
from fleet.watch import MembershipWatch
from gateway.background import beside
from gateway.door import Door
from gateway.errors import GatewayError, StartError
from gateway.fleet_client import FleetClient
from gateway.http_server import bind, serve_http
from gateway.logs import configure_logs, guard_vllm_logs
from gateway.metrics import ContactMetrics, GatewayMetrics, WorkerMetrics
from gateway.model_folder import check_model, is_folder
from gateway.pages import Pages
from gateway.request_book import RequestBook
from gateway.roster import Roster
from gateway.session import SessionLimits
from gateway.settings import Settings, read_settings
from gateway.ticket_office import TicketOffice
from gateway.worker_link import Check, WorkerLink
from proto import worker_pb2
from proto.fleet_key import BadFleetKey, FleetKey
from proto.greeting import Greeting

if TYPE_CHECKING:
    from gateway.front_half import FrontHalfOptions

logger = logging.getLogger(__name__)


def main(words: list[str] | None = None) -> int:
    """Runs the gateway; the exit code. The last line on stderr says what went wrong."""
    # Until the event loop takes over, SIGTERM still means a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    configure_logs()
    try:
        settings = read_settings(sys.argv[1:] if words is None else words)
        prepare_environment(settings)
        uvloop.run(run(settings))
    except (GatewayError, FleetError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def prepare_environment(settings: Settings) -> None:
    """What vLLM reads when it is imported; what is set already stays."""
    defaults = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if is_folder(settings.model):
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # vLLM would open its development routes.
    os.environ["VLLM_SERVER_DEV_MODE"] = "0"


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. What can fail soon is tried first."""
    check_model(settings.model)
    key = read_key(settings.fleet_key_file)
    with closing(bind(settings.host, settings.port)) as sock:
        async with RedisMembership.connect(settings.redis, settings.fleet) as membership:
            await membership.check()
            gateway = Gateway(settings, key, MembershipWatch(membership))
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, gateway.stop)
            await gateway.run(sock)


def read_key(path: Path) -> FleetKey:
    """Raises StartError."""
    try:
        return FleetKey.read(path)
    except BadFleetKey as error:
        raise StartError(f"--fleet-key-file: {error}") from error


class Gateway:
    """All parts of one gateway process."""

    def __init__(self, settings: Settings, key: FleetKey, watch: MembershipWatch) -> None:
        # Here, because importing vLLM takes seconds and no other error shall wait for it.
        from gateway import front_half

        self._front_half = front_half
        guard_vllm_logs()
        self._settings = settings
        self._contact = watch.contact
        self._stop = asyncio.Event()
        self._metrics = GatewayMetrics()
        version = front_half.VLLM_VERSION
        self._greeting = Greeting(new_incarnation(), version, key)
        self.roster = Roster(watch.changes(), self._make_link, version)
        self.book = RequestBook(
            lambda: self.roster.view(self.book.ledger),
            TicketOffice(key, settings.timeouts.ticket_lease),
            settings.timeouts,
            settings.dispatch,
            on_end=self._metrics.life_ended,
        )
        self._fleet = FleetClient(self.book, self.roster, front_half.OutputsDecoder())
        self._metrics.registry.register(WorkerMetrics(self.roster.links.values))
        self._metrics.registry.register(ContactMetrics(watch.contact))

    async def run(self, sock: socket.socket) -> None:
        """Returns after `stop`. Raises StartError or GatewayError."""
        async with beside(self.roster.run(), self._fleet.run()):
            if await self._workers_are_ready():
                await self._serve(sock)

    def stop(self) -> None:
        """Takes nothing new, lets what is open end, and then `run` returns."""
        self._stop.set()

    async def _workers_are_ready(self) -> bool:
        """False if told to stop before."""
        settings = self._settings
        waiting = asyncio.ensure_future(
            self.roster.wait_for(
                settings.expect_prefill, settings.expect_decode, settings.expect_seconds
            )
        )
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return not self._stop.is_set() and waiting.result() is None
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _serve(self, sock: socket.socket) -> None:
        settings = self._settings
        front = await self._front_half.open_front_half(
            self._options(),
            self._fleet,
            lambda: self.roster.num_usable(worker_pb2.ROLE_DECODE) > 0,
            self._metrics.refused,
        )
        guard_vllm_logs()
        pages = Pages(self.roster, self._metrics, front.model_cards, self._contact)
        max_body_bytes = settings.max_body_mib * 2**20
        door = Door(front.app, pages.by_path(), max_body_bytes, self._metrics.answered)
        seconds = settings.shutdown_seconds
        with closing(front):
            async with beside(front.watch()):
                host, port = sock.getsockname()[:2]
                names = ", ".join(settings.served_model_names)
                logger.info("serving %s on http://%s:%d", names, host, port)
                await serve_http(
                    door, sock, self._stop, lambda: self._fleet.drain(seconds), seconds
                )

    def _options(self) -> FrontHalfOptions:
        settings = self._settings
        longest = self.roster.max_model_len
        return self._front_half.FrontHalfOptions(
            settings.model,
            settings.served_model_names,
            min(longest, settings.max_model_len or longest),
            settings.dtype,
            settings.engine_args,
        )

    def _make_link(self, member: Member, check: Check, on_change: Callable[[], None]) -> WorkerLink:
        seconds = self._settings.connect_seconds
        return WorkerLink(
            member, self._greeting, check, on_change, self._fleet, seconds, SessionLimits()
        )
