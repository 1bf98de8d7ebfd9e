"""The gateway's own view of its workers."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field

import msgspec

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
    # No proxy: the gateway is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/fleet/workers?fresh=1", timeout=ANSWER_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=FleetView)
    except (OSError, ValueError):
        return None
