"""Messages and parts with sensible contents."""

from __future__ import annotations

from collections.abc import Iterable

from decode_worker.leg import DECODE
from prefill_worker.leg import PREFILL
from proto import worker_pb2
from worker.admission import Admission, Identity
from worker.hub import Hub
from worker.interface import Engine
from worker.ledger import Ledger
from worker.leg import Leg

IDENTITY = Identity("worker-0", "abc", num_ranks=1)
TICKET_ID = bytes(range(16))


def make_ticket(
    *,
    worker: str = "worker-0",
    incarnation: str = "abc",
    addresses: Iterable[bytes] = (b"there",),
    lease_seconds: float = 30.0,
    ticket_id: bytes = TICKET_ID,
) -> worker_pb2.Ticket:
    return worker_pb2.Ticket(
        id=ticket_id,
        source_worker=worker,
        source_incarnation=incarnation,
        source_addresses=addresses,
        lease_seconds=lease_seconds,
    )


def make_submit(
    request_id: str = "r",
    *,
    leg: int = worker_pb2.ROLE_DECODE,
    ticket: worker_pb2.Ticket | None = None,
    frames: Iterable[bytes] = (b"request",),
) -> worker_pb2.Submit:
    return worker_pb2.Submit(
        request_id=request_id,
        leg=leg,  # type: ignore[arg-type] # an enum's values may be unknown
        request=frames,
        ticket=ticket,
    )


def make_hub(engine: Engine, legs: Iterable[Leg] = (PREFILL, DECODE)) -> tuple[Hub, Ledger]:
    ledger = Ledger()
    return Hub(engine, Admission(IDENTITY, legs, ledger), ledger), ledger
