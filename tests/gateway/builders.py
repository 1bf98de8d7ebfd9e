"""Small things that the gateway's tests are made of."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.placement import FleetView, WorkerView
from gateway.request import Request
from gateway.request_book import RequestBook
from gateway.request_life import Dispatch, RequestLife
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
    num_tokens: int = 0,
    num_legs: int = 0,
    report: worker_pb2.LoadReport | None = None,
    layout: KvLayout = LAYOUT,
    kv_connector: str = "baton",
) -> WorkerView:
    worker_id, _, incarnation = key.partition("/")
    return WorkerView(
        key,
        layout,
        worker_id,
        incarnation,
        "model",
        (b"address of " + worker_id.encode(),),
        num_legs,
        num_tokens,
        report,
        kv_connector,
    )


class Fleet:
    """Usable workers by name; tests take some away. `layouts` has those of the odd ones."""

    def __init__(
        self, decode: str = "d1", prefill: str = "p1", layouts: Mapping[str, KvLayout] | None = None
    ) -> None:
        self.decode = decode.split()
        self.prefill = prefill.split()
        self._layouts = layouts or {}
        self.book: RequestBook | None = None

    def __call__(self) -> FleetView:
        return FleetView(self._views(self.decode), self._views(self.prefill))

    def lose(self, worker: str) -> None:
        for workers in (self.decode, self.prefill):
            if worker in workers:
                workers.remove(worker)

    def _views(self, workers: list[str]) -> tuple[WorkerView, ...]:
        assert self.book is not None
        tokens = self.book.ledger.num_tokens
        layout = self._layouts.get
        return tuple(
            make_worker(worker, tokens(worker), layout=layout(worker, LAYOUT)) for worker in workers
        )


def make_book(
    fleet: Fleet | None = None, dispatch: Dispatch = Dispatch.TOGETHER
) -> tuple[RequestBook, Fleet]:
    fleet = fleet or Fleet()
    fleet.book = RequestBook(fleet, TICKETS, TIMEOUTS, dispatch)
    return fleet.book, fleet
