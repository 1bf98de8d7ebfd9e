"""The gateway's composition root: the one place that builds and connects everything."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.block_table import BlockTable
from fleet.block_watch import BlockWatch
from fleet.member import Member, new_incarnation
from fleet.prefix_index import PrefixIndex
from fleet.redis_block_log import RedisBlockLog
from fleet.redis_membership import RedisMembership
from fleet.watch import MembershipWatch
from gateway import garbage
from gateway.background import beside
from gateway.block_audit import BlockAudit
from gateway.door import Door
from gateway.errors import StartError
from gateway.fleet_client import FleetClient
from gateway.fleet_pages import FleetPages
from gateway.http_server import bind, serve_http
from gateway.index_report import IndexReport
from gateway.logs import guard_vllm_logs
from gateway.metrics import GatewayMetrics, WorkerMetrics
from gateway.model_folder import check_model
from gateway.pages import Pages
from gateway.request_book import RequestBook
from gateway.roster import Roster
from gateway.routing.decider import Decider
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.fleet_table import FleetTable
from gateway.routing.policy import read_policy
from gateway.routing.prompt_hits import PromptHits
from gateway.routing.router import Router
from gateway.routing_gauges import RoutingGauges
from gateway.session import SessionLimits
from gateway.settings import Settings
from gateway.ticket_office import TicketOffice
from gateway.worker_link import Check, WorkerLink
from proto import worker_pb2
from proto.fleet_key import BadFleetKey, FleetKey
from proto.greeting import Greeting

if TYPE_CHECKING:
    from gateway.front_half import FrontHalfOptions

logger = logging.getLogger(__name__)


async def check(settings: Settings) -> None:
    """What can fail soon. Raises StartError or FleetError."""
    check_model(settings.model)
    read_key(settings.fleet_key_file)
    async with RedisMembership.connect(settings.redis, settings.fleet) as membership:
        await membership.check()


async def run(
    settings: Settings,
    sock: socket.socket | None = None,
    on_serving: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGTERM or SIGINT, on `sock` if that is given.

    What can fail soon is tried first. `on_serving` is called when it takes requests.
    """
    check_model(settings.model)
    key = read_key(settings.fleet_key_file)
    with closing(sock or bind(settings.host, settings.port)) as sock:
        async with RedisMembership.connect(settings.redis, settings.fleet) as membership:
            await membership.check()
            async with RedisBlockLog.connect(settings.redis, settings.fleet) as log:
                gateway = Gateway(settings, key, MembershipWatch(membership), log, on_serving)
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

    def __init__(
        self,
        settings: Settings,
        key: FleetKey,
        watch: MembershipWatch,
        log: RedisBlockLog,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        # Here, because importing vLLM takes seconds and no other error shall wait for it.
        from gateway import front_half

        self._front_half = front_half
        guard_vllm_logs()
        BlockTable.warm_up()
        self._settings = settings
        self._contact = watch.contact
        self._on_serving = on_serving
        self._stop = asyncio.Event()
        self._metrics = GatewayMetrics()
        self._contact.listen(self._metrics.contact_changed)
        version = front_half.VLLM_VERSION
        self._greeting = Greeting(new_incarnation(), version, key)
        self._blocks = BlockWatch(log, contact=watch.contact)
        self._index = PrefixIndex(self._blocks.replica)
        table = FleetTable()
        self.roster = Roster(watch.changes(), self._make_link, version, table, [self._blocks])
        decider = Decider(settings.disaggregation, settings.slo, settings.control_share)
        router = Router(table, read_policy(settings.routing), decider)
        hits = PromptHits(self._index, table)
        self.dispatcher = Dispatcher(table, router, hits)
        self.book = RequestBook(
            self.dispatcher,
            TicketOffice(key, settings.timeouts.ticket_lease),
            settings.timeouts,
            settings.dispatch,
            on_end=self._metrics.life_ended,
        )
        self._fleet = FleetClient(self.book, self.roster, front_half.OutputsDecoder())
        self._metrics.registry.register(WorkerMetrics(self.roster.links.values))
        self._gauges = RoutingGauges(self._metrics.registry, self.dispatcher, self._blocks)

    async def run(self, sock: socket.socket) -> None:
        """Returns after `stop`. Raises StartError or GatewayError."""
        parts = self.roster.run(), self._fleet.run(), self._blocks.run(), self._gauges.run()
        async with beside(*parts):
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
            lambda: self.roster.is_any_usable(worker_pb2.ROLE_DECODE),
            self._metrics.refused,
        )
        guard_vllm_logs()
        pages = Pages(self.roster, self._metrics, front.model_cards, self._contact)
        fleet_pages = FleetPages(
            self.dispatcher,
            IndexReport(self._blocks, self._index, self.dispatcher),
            BlockAudit(self._blocks.replica, self.roster.sessions),
        )
        all_pages = {**pages.by_path(), **fleet_pages.by_path()}
        garbage.settle()
        max_body_bytes = settings.max_body_mib * 2**20
        door = Door(front.app, all_pages, max_body_bytes, self._metrics.answered)
        seconds = settings.shutdown_seconds
        with closing(front):
            async with beside(front.watch()):
                host, port = sock.getsockname()[:2]
                names = ", ".join(settings.served_model_names)
                logger.info("serving %s on http://%s:%d", names, host, port)
                await serve_http(
                    door,
                    sock,
                    self._stop,
                    lambda: self._fleet.drain(seconds),
                    seconds,
                    self._on_serving,
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
