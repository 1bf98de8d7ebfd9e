"""Small things that the gateway's tests are made of."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.request import Request
from gateway.request_book import RequestBook
from gateway.request_life import Dispatch, RequestLife
from gateway.routing.decider import Decider, Mode
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.facts import WorkerFacts
from gateway.routing.fleet_table import FleetTable
from gateway.routing.policy import POLICIES
from gateway.routing.router import Router
from gateway.ticket_office import TicketOffice
from gateway.timeouts import Timeouts
from proto import worker_pb2
from proto.layout import KvLayout
from proto.ticket import Ticket
from tests.proto.builders import KEY, LAYOUT
from tests.proto.builders import make_ticket as make_signed_ticket

PATIENCE_SECONDS = 10.0
TIMEOUTS = Timeouts(connect=1, prefill=10, first_token=30, between_tokens=5)
TICKETS = TicketOffice(KEY, TIMEOUTS.ticket_lease)


def make_request(
    request_id: str = "r", num_prompt_tokens: int = 100, can_hand_off: bool = True
) -> Request:
    return Request(request_id, num_prompt_tokens, can_hand_off, (b"request",), b"x" * 32)


def make_ticket() -> Ticket:
    return make_signed_ticket(source_worker="p", source_incarnation="1")


def make_life(request: Request | None = None) -> RequestLife:
    return RequestLife(request or make_request(), TIMEOUTS, arrived_at=0.0)


def make_report(
    num_running: int = 0,
    num_waiting: int = 0,
    num_kv_blocks: int = 100,
    num_kv_blocks_used: int = 0,
) -> worker_pb2.LoadReport:
    return worker_pb2.LoadReport(
        num_running=num_running,
        num_waiting=num_waiting,
        num_kv_blocks=num_kv_blocks,
        num_kv_blocks_used=num_kv_blocks_used,
    )


def make_worker(
    key: str,
    layout: KvLayout = LAYOUT,
    kv_connector: str = "baton",
    *,
    can_prefill: bool = False,
    can_decode: bool = False,
    kv_tokens: int = 1 << 20,
    step_tokens: int = 512,
) -> WorkerFacts:
    worker_id, _, incarnation = key.partition("/")
    return WorkerFacts(
        key,
        layout,
        worker_id,
        incarnation,
        "model",
        (b"address of " + worker_id.encode(),),
        kv_connector,
        can_prefill,
        can_decode,
        kv_tokens,
        step_tokens,
    )


class Fleet:
    """Usable workers by name; tests take some away. `layouts` has those of the odd ones."""

    def __init__(
        self, decode: str = "d1", prefill: str = "p1", layouts: Mapping[str, KvLayout] | None = None
    ) -> None:
        self.table = FleetTable()
        layouts = layouts or {}
        for key in decode.split():
            self.put(make_worker(key, layouts.get(key, LAYOUT), can_decode=True))
        for key in prefill.split():
            self.put(make_worker(key, layouts.get(key, LAYOUT), can_prefill=True))

    def put(self, worker: WorkerFacts) -> None:
        self.table.put(worker, is_usable=True)

    def find(self) -> None:
        """All that were lost are back."""
        for row in list(self.table.rows.values()):
            self.put(self.table.facts(row))

    def lose(self, worker: str) -> None:
        row = self.table.rows[worker]
        self.table.put(self.table.facts(row), is_usable=False)


def make_dispatcher(
    table: FleetTable, mode: Mode = Mode.ALWAYS, routing: str = "least-loaded"
) -> Dispatcher:
    return Dispatcher(table, Router(table, POLICIES[routing], Decider(mode)))


def make_book(
    fleet: Fleet | None = None, dispatch: Dispatch = Dispatch.TOGETHER
) -> tuple[RequestBook, Fleet]:
    fleet = fleet or Fleet()
    return RequestBook(make_dispatcher(fleet.table), TICKETS, TIMEOUTS, dispatch), fleet
