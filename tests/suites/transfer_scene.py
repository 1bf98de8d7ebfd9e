"""A prefill worker and two decode workers, each a process: how they reach each other, what they
have open when idle, and a new one in the place of one that is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import psutil

from kvtransfer.mover_config import MoverConfig
from kvtransfer.segment import HEADER_BYTES
from proto.layout import KvLayout
from tests.suites.levels import SYSV_SEGMENTS, Level
from tests.suites.network import Link, Namespace
from tests.suites.transfer_engine import LAYOUT
from tests.suites.transfer_part import WorkerPart
from tests.suites.transfer_worker import Start

STALL_SECONDS = 1.0
SLOT_BYTES = HEADER_BYTES + 2 * LAYOUT.head_bytes * 2
CONFIG = MoverConfig(
    staging_bytes=16 * SLOT_BYTES,
    slot_bytes=SLOT_BYTES,
    stall_seconds=STALL_SECONDS,
    ping_seconds=0.2,
)
ROLES = ("prefill", "decode", "other")
# In two namespaces of one machine UCX would see more than the link that joins them.
OVER_LINK = {"TLS": "tcp,self"}


class Place(StrEnum):
    HOST = "shared memory"
    TCP = "TCP"
    LINK = "TCP over a link"


@dataclass(frozen=True, slots=True)
class Shape:
    """How one role is started."""

    layout: KvLayout = LAYOUT
    config: MoverConfig = CONFIG


class TransferScene:
    """`usual_shapes` by role; closed by its owner."""

    def __init__(self, folder: Path, place: Place, link: Link | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.link = link
        self.usual_shapes: Mapping[str, Shape] = {
            "prefill": Shape(),
            "decode": Shape(replace(LAYOUT, block_size=32)),
            "other": Shape(),
        }
        self._shapes = dict(self.usual_shapes)
        self.parts: dict[str, WorkerPart] = {}
        self._folder = folder
        self._pids: set[int] = set()
        for role in ROLES:
            self._start(role)
        for part in self.parts.values():
            part.wait_until_ready()

    @property
    def prefill(self) -> WorkerPart:
        return self.parts["prefill"]

    @property
    def decode(self) -> WorkerPart:
        return self.parts["decode"]

    def restart(self, role: str, shape: Shape | None = None) -> None:
        """In the place of what was there; another shape stays."""
        self._shapes[role] = shape or self._shapes[role]
        self.parts[role].close()
        self._start(role)
        self.parts[role].wait_until_ready()

    def handles(self) -> Mapping[str, Mapping[str, int]]:
        """What each process has open, by role."""
        found = {}
        for role, part in self.parts.items():
            with suppress(OSError, psutil.Error):
                found[role] = Level.of(part.pid).handles
        return found

    def left_segments(self) -> set[int]:
        """Shared memory that a process of ours has made, and that no process is attached to."""
        rows = [line.split() for line in SYSV_SEGMENTS.read_text().splitlines()[1:]]
        return {int(row[1]) for row in rows if int(row[4]) in self._pids and row[6] == "0"}

    def close(self) -> None:
        for part in self.parts.values():
            part.close()

    def _start(self, role: str) -> None:
        shape = self._shapes[role]
        host = "host" if self.place is Place.HOST else f"{role} {time.monotonic_ns()}"
        ucx = OVER_LINK if self.place is Place.LINK else {}
        log = self._folder / f"{role}.log"
        start = Start(host, shape.layout.to_json(), shape.config, ucx)
        self.parts[role] = part = WorkerPart(role, start, log, self._namespace(role))
        self._pids.add(part.pid)

    def _namespace(self, role: str) -> Namespace | None:
        if self.link is None:
            return None
        return self.link.far if role == "prefill" else self.link.near


def differences(
    now: Mapping[str, Mapping[str, int]], before: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    """What has become more."""
    for role, handles in now.items():
        for kind, count in handles.items():
            if count > before[role][kind]:
                yield f"{role}: {before[role][kind]} {kind} became {count}"
