"""Messages and parts with sensible contents."""

from __future__ import annotations

from collections.abc import Iterable

from decode_worker.leg import DECODE
from prefill_worker.leg import PREFILL
from proto import worker_pb2
from proto.layout import KvLayout
from proto.ticket import Ticket
from tests.proto.builders import KEY, LAYOUT
from worker.hub import Hub
from worker.identity import Identity
from worker.interface import Engine
from worker.ledger import Ledger
from worker.leg import Leg
from worker.peers import PeerBook
from worker.process import make_hub as compose
from worker.ticket_check import TicketCheck
from worker.ticket_ledger import TicketLedger

IDENTITY = Identity("worker-0", "abc", "model", LAYOUT.fingerprint)


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_submit(
    request_id: str = "r",
    *,
    leg: int = worker_pb2.ROLE_DECODE,
    ticket: Ticket | None = None,
    frames: Iterable[bytes] = (b"request",),
    kv_tokens: int = 0,
) -> worker_pb2.Submit:
    return worker_pb2.Submit(
        request_id=request_id,
        leg=leg,  # type: ignore[arg-type] # an enum's values may be unknown
        request=frames,
        ticket=ticket.to_proto() if ticket else None,
        kv_tokens=kv_tokens,
    )


def make_prefill(request_id: str = "p", *, ticket: Ticket | None = None) -> worker_pb2.Submit:
    return make_submit(request_id, leg=worker_pb2.ROLE_PREFILL, ticket=ticket)


def make_introduction(
    worker_id: str = "worker-0",
    incarnation: str = "abc",
    addresses: Iterable[bytes] = (b"there",),
    layout: KvLayout = LAYOUT,
) -> worker_pb2.Introduce:
    """Of the source of `make_ticket`."""
    return worker_pb2.Introduce(
        worker_id=worker_id,
        incarnation=incarnation,
        transfer_addresses=addresses,
        kv_layout=layout.to_proto(),
    )


def make_check(
    identity: Identity = IDENTITY, max_used: int = 100, clock: Clock | None = None
) -> TicketCheck:
    if clock is None:
        return TicketCheck(KEY, identity, PeerBook(), TicketLedger(max_used))
    return TicketCheck(KEY, identity, PeerBook(), TicketLedger(max_used), clock, clock)


def make_hub(engine: Engine, legs: Iterable[Leg] = (PREFILL, DECODE)) -> tuple[Hub, Ledger]:
    ledger = Ledger()
    return compose(engine, legs, KEY, IDENTITY, ledger), ledger
