"""Which workers take a request: a frozen view goes in, a choice comes out.

Pure and synchronous. A router with prefix hits and learned rates fits the same protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.compatibility import NIXL, kv_obstacle
from gateway.request import Request
from proto import worker_pb2
from proto.layout import KvLayout

# What another gateway's request is taken to weigh: its prompt is not known here.
FOREIGN_TOKENS = 512


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One usable worker. `key` is "worker_id/incarnation"; `num_tokens` in prompts of ours."""

    key: str
    layout: KvLayout = field(repr=False)
    worker_id: str = ""
    incarnation: str = ""
    model_fingerprint: str = ""
    transfer_addresses: tuple[bytes, ...] = field(default=(), repr=False)
    num_legs: int = 0
    num_tokens: int = 0
    report: worker_pb2.LoadReport | None = None
    kv_connector: str = ""

    @property
    def load_tokens(self) -> float:
        """Ours exactly, others' by their number."""
        if self.report is None:
            return self.num_tokens
        reported = self.report.num_running + self.report.num_waiting
        return self.num_tokens + FOREIGN_TOKENS * max(0, reported - self.num_legs)

    def can_prefill_for(self, decode: WorkerView) -> bool:
        """Its KV can be had there, converted if need be."""
        ends = (self.kv_connector, self.layout), (decode.kv_connector, decode.layout)
        return self.key != decode.key and kv_obstacle(*ends) is None

    @property
    def is_pulled_from(self) -> bool:
        """Its KV is fetched when all of it is there."""
        return self.kv_connector == NIXL

    @property
    def kv_used(self) -> float:
        """Share of the KV blocks in use, 0 to 1."""
        if self.report is None or not self.report.num_kv_blocks:
            return 0.0
        return self.report.num_kv_blocks_used / self.report.num_kv_blocks


@dataclass(frozen=True, slots=True)
class FleetView:
    """The workers that can take a leg now, by the leg."""

    decode: tuple[WorkerView, ...] = ()
    prefill: tuple[WorkerView, ...] = ()

    def without(self, worker: str, source: str | None = None) -> FleetView:
        """The decode workers but this one; with a `source`, those that its KV can be had on."""
        others = (each for each in self.decode if each.key != worker)
        sources = [each for each in self.prefill if each.key == source]
        return FleetView(
            tuple(each for each in others if all(x.can_prefill_for(each) for x in sources))
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """`prefill` None: the decode worker computes the prompt itself."""

    decode: WorkerView
    prefill: WorkerView | None = None


class Placer(Protocol):
    def place(self, request: Request, fleet: FleetView) -> Placement | None:
        """None if nobody can take it. Never waits, changes nothing."""


class LeastLoaded:
    """The worker with the least to do, of each kind; ties go by KV in use, then by name."""

    def place(self, request: Request, fleet: FleetView) -> Placement | None:
        decode = least_loaded(fleet.decode)
        if decode is None:
            return None
        if not request.can_hand_off:
            return Placement(decode)
        fitting = (worker for worker in fleet.prefill if worker.can_prefill_for(decode))
        return Placement(decode, least_loaded(fitting))


def least_loaded(workers: Iterable[WorkerView]) -> WorkerView | None:
    return min(workers, key=lambda w: (w.load_tokens, w.kv_used, w.key), default=None)
