"""What the tests of routing are made of: requests as a decision sees them, and a small gateway."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fleet.tier import BlockKeys
from gateway.request import Request
from gateway.routing.columns import Floats
from gateway.routing.decider import Decider, Mode, Verdict
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.fleet_table import FleetTable
from gateway.routing.hits import Hits
from gateway.routing.lanes import Waiting
from gateway.routing.pair_table import PairTable
from gateway.routing.placement import Placement
from gateway.routing.policy import POLICIES, RoutingPolicy
from gateway.routing.router import Router
from gateway.routing.scene import Query, Scene
from gateway.routing.way import Slo, Way
from gateway.worker_ledger import Booking, WorkerLedger
from proto import worker_pb2
from tests.gateway.builders import make_worker

NOBODY: Mapping[str, int] = {}


def by_row(table: FleetTable, values: Mapping[str, int]) -> Floats:
    column = np.zeros(len(table.keys))
    for key, value in values.items():
        column[table.rows[key]] = value
    return column


def by_key(table: FleetTable, column: np.ndarray) -> dict[str, float]:
    """What a column says of each worker."""
    return {key: float(column[row]) for key, row in table.rows.items()}


def make_query(
    table: FleetTable,
    num_prompt_tokens: int = 1000,
    kv_tokens: int = 1200,
    cached: Mapping[str, int] = NOBODY,
    cached_below: Mapping[str, int] = NOBODY,
    *,
    can_hand_off: bool = True,
    session_workers: tuple[str, ...] = (),
    lora: str = "",
) -> Query:
    return Query(
        num_prompt_tokens,
        kv_tokens,
        by_row(table, cached),
        by_row(table, cached_below),
        can_hand_off,
        session_workers,
        lora,
    )


def make_scene(
    table: FleetTable,
    query: Query | None = None,
    pairs: PairTable | None = None,
    now: float = 0.0,
    source: str | None = None,
    source_seconds: float = 0.0,
    lora_rows: tuple[int, ...] = (),
) -> Scene:
    return Scene(
        query or make_query(table),
        table,
        pairs or PairTable(),
        now,
        None if source is None else table.rows[source],
        source_seconds,
        lora_rows,
    )


def make_waiting(
    request_id: str = "r",
    worker: str = "p1",
    seconds: float = 1.0,
    rank: float = 0.0,
    query: Query | None = None,
    verdict: Verdict | None = None,
) -> Waiting:
    query = query or Query(100, 200, np.zeros(8), np.zeros(8))
    verdict = verdict or Verdict(Way.REMOTE)
    return Waiting(request_id, worker, seconds, 100, rank, 0.0, query, verdict)


def prefilling(num_steps: int, num_tokens: int, seconds: float) -> worker_pb2.Work:
    """Totals of steps that computed prompts alone."""
    return worker_pb2.Work(
        prefill_steps=num_steps, prefill_tokens=num_tokens, prefill_seconds=seconds
    )


def generating(num_steps: int, num_tokens: int, seconds: float) -> worker_pb2.Work:
    """Totals of steps that computed next tokens alone."""
    return worker_pb2.Work(decode_steps=num_steps, decode_tokens=num_tokens, decode_seconds=seconds)


def told(
    table: FleetTable,
    key: str,
    token_seconds: float = 0.0,
    step_seconds: float = 0.0,
    now: float = 0.0,
    report: worker_pb2.LoadReport | None = None,
) -> None:
    """The worker has reported much work: each token of a prompt took it so long, and each step
    that generates, whatever its size.
    """
    last = table.report_of(table.rows[key])
    totals = worker_pb2.Work()
    if last is not None:
        totals.CopyFrom(last.work)
    # In windows that differ in how much a step computes; enough to forget what was before.
    for number in range(200 if totals.ByteSize() else 2):
        num_tokens = (100, 1000)[number % 2]
        if token_seconds:
            totals.prefill_steps += 100
            totals.prefill_tokens += 100 * num_tokens
            totals.prefill_seconds += 100 * num_tokens * token_seconds
        if step_seconds:
            totals.decode_steps += 100
            totals.decode_tokens += num_tokens
            totals.decode_seconds += 100 * step_seconds
        table.report(key, reporting(totals, report), now)


def reporting(
    totals: worker_pb2.Work, report: worker_pb2.LoadReport | None = None
) -> worker_pb2.LoadReport:
    found = worker_pb2.LoadReport(work=totals)
    if report is not None:
        found.MergeFrom(report)
    return found


class Desk:
    """A dispatcher whose placements are booked, as the request book does it."""

    def __init__(
        self,
        table: FleetTable,
        mode: Mode = Mode.AUTO,
        routing: str | RoutingPolicy = "default",
        hits: Hits | None = None,
        slo: Slo | None = None,
        control_share: float = 0.0,
    ) -> None:
        policy = POLICIES[routing] if isinstance(routing, str) else routing
        decider = Decider(mode, slo, control_share, seed=1)
        self.table = table
        self.dispatcher = Dispatcher(table, Router(table, policy, decider), hits)
        self.ledger = WorkerLedger()
        self.placements: dict[str, Placement] = {}
        self.sent: list[str] = []
        self._booked: dict[str, tuple[Booking, ...]] = {}

    def add(self, request: Request, now: float = 0.0) -> bool:
        return self.dispatcher.add(request, now)

    def begin(self, now: float = 0.0) -> dict[str, str]:
        """Who begins: "prefill>decode" or "decode" by request id."""
        begun: dict[str, str] = {}
        for request, placement in self.dispatcher.ready(now):
            name = request.request_id
            self.placements[name] = placement
            self.sent.append(name)
            prompt = request.num_prompt_tokens
            decode, prefill = placement.decode.key, placement.prefill
            weight = placement.num_tokens, placement.seconds
            own = (0, 0.0) if prefill else weight
            legs = [Booking(decode, name, *own, placement.kv_tokens, True)]
            if prefill:
                legs.append(Booking(prefill.key, f"prefill:{name}", *weight, prompt, True))
            self._book(name, tuple(legs), now)
            begun[name] = f"{prefill.key}>{decode}" if prefill else decode
        self.dispatcher.check_integrity()
        self.ledger.check_integrity()
        return begun

    def streams(self, name: str, now: float = 0.0) -> None:
        """Its prompt is computed, its first token is there."""
        kv_tokens = self.placements[name].kv_tokens
        decode = self.placements[name].decode.key
        self._book(name, (Booking(decode, name, kv_tokens=kv_tokens),), now)

    def ended(self, name: str, now: float = 0.0) -> None:
        self._book(name, (), now)
        del self.placements[name]

    def _book(self, name: str, legs: tuple[Booking, ...], now: float) -> None:
        for worker in self.ledger.move(self._booked.pop(name, ()), legs):
            self.table.book(worker, self.ledger.booked(worker), now)
        if legs:
            self._booked[name] = legs


def make_prompt(
    request_id: str,
    num_tokens: int,
    max_tokens: int | None = 10,
    *,
    can_hand_off: bool = True,
    session: str = "",
    lora: str = "",
    priority: int = 0,
    deadline: float | None = None,
    block_keys: Mapping[int, BlockKeys] | None = None,
) -> Request:
    return Request(
        request_id,
        num_tokens,
        can_hand_off,
        max_tokens=max_tokens,
        session=session,
        lora=lora,
        priority=priority,
        deadline=deadline,
        block_keys=block_keys or {},
    )


def make_fleet(decode: str = "d1", prefill: str = "p1", kv_tokens: int = 1 << 20) -> FleetTable:
    """All compute 1000 tokens of a prompt a second; a step that generates takes 10 ms."""
    table = FleetTable()
    for key in decode.split():
        table.put(make_worker(key, can_decode=True, kv_tokens=kv_tokens), is_usable=True)
    for key in prefill.split():
        table.put(make_worker(key, can_prefill=True), is_usable=True)
    for key in table.rows:
        told(table, key, token_seconds=0.001, step_seconds=0.01)
    return table
