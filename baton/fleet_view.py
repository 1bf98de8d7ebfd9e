"""The gateway's own view of its workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from baton.errors import NoAnswer
from baton.gateway_page import fetch, read

ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TransferTotals:
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    num_running: int = 0
    num_waiting: int = 0
    num_kv_blocks: int = 0
    num_kv_blocks_used: int = 0
    transfers: TransferTotals = field(default_factory=TransferTotals)


@dataclass(frozen=True, slots=True)
class WorkerView:
    worker_id: str
    state: str = ""
    reason: str | None = None
    load: WorkerLoad = field(default_factory=WorkerLoad)


@dataclass(frozen=True, slots=True)
class FleetView:
    workers: tuple[WorkerView, ...] = ()


def view_fleet(url: str) -> FleetView | None:
    """None if the gateway does not answer, or not as one."""
    try:
        return read(fetch(url, "/fleet/workers?fresh=1", ANSWER_SECONDS), FleetView)
    except NoAnswer:
        return None
