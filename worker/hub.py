"""Between one engine and the sessions of all gateways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from fleet.member_load import MemberLoad
from proto import worker_pb2
from worker.admission import Admission
from worker.errors import (
    EngineLost,
    GatewayRefused,
    OutputTooLarge,
    RequestError,
    Stopping,
    TicketRefused,
)
from worker.groups import gravest
from worker.interface import Engine, Step
from worker.ledger import Ledger, OpenLeg
from worker.leg import Order
from worker.load_teller import LoadTeller
from worker.outbox import Outbox
from worker.peer_relay import PeerRelay
from worker.ticket_check import TicketCheck
from worker.ticket_keeper import TicketKeeper

MAX_MESSAGE_BYTES = 64 * 2**20
# Left for protobuf's own bytes around a step's outputs.
MAX_STEP_BYTES = MAX_MESSAGE_BYTES - 2**16
MAX_SESSIONS = 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """One gateway's session, as the hub knows it."""

    number: int
    gateway_id: str
    outbox: Outbox = field(default_factory=Outbox)


class Hub:
    """Submits legs, spreads each step's outputs over the sessions, aborts what has no owner.

    All decisions are synchronous; `run` does the engine's part of the I/O.
    """

    def __init__(
        self, engine: Engine, admission: Admission, ledger: Ledger, check: TicketCheck
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._ledger = ledger
        self._tickets = check.ledger
        self._clock = check.clock
        self._keeper = TicketKeeper(engine, check.ledger, self.report, check.clock)
        self.peers = PeerRelay(engine, check.peers)
        self._links: dict[int, Link] = {}
        self._numbers = count(1)
        self._orphans: list[str] = []
        self._has_orphans = asyncio.Event()
        self._teller = LoadTeller(
            check.ledger, check.clock, self._outboxes, lambda: ledger.reserved_tokens
        )

    async def run(self) -> None:
        """Ends by EngineLost, or by cancellation."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_steps())
                tasks.create_task(self._abort_orphans())
                tasks.create_task(self._teller.run())
                tasks.create_task(self._keeper.run())
                tasks.create_task(self.peers.run())
        except ExceptionGroup as group:
            raise gravest(group, EngineLost) from None

    def open(self, gateway_id: str) -> Link:
        """Raises GatewayRefused."""
        if len(self._links) >= MAX_SESSIONS:
            raise GatewayRefused(f"{MAX_SESSIONS} sessions are open already")
        link = Link(next(self._numbers), gateway_id)
        self._links[link.number] = link
        link.outbox.put_load(self._teller.report())
        return link

    def close(self, link: Link) -> None:
        """Everything that is open in it is aborted. Idempotent."""
        if self._links.pop(link.number, None):
            self._give_up(self._ledger.close_session(link.number))
            self.peers.close_session(link.number)

    async def submit(self, link: Link, submit: worker_pb2.Submit) -> None:
        """Raises RequestError."""
        order = self._admission.admit(link.number, submit)
        try:
            await self._start(link, submit.request_id, order)
        except RequestError:
            self._ledger.close(order.engine_id)
            self._tickets.close(order.engine_id)
            raise
        if submit.kv_tokens:
            self._teller.tell()

    async def _start(self, link: Link, request_id: str, order: Order) -> None:
        if order.ticket:
            self._keeper.opened()
        if order.refusal:
            link.outbox.put(ticket_refused(request_id, order.refusal))
            self._teller.tell()
        try:
            await self._engine.submit(order)
        except TicketRefused as refusal:
            await self._start(link, request_id, self._admission.without_ticket(order, refusal))

    def abort(self, link: Link, request_ids: Iterable[str]) -> None:
        """Ids that are not open are ignored."""
        closed = (self._ledger.close_request(link.number, name) for name in request_ids)
        self._give_up(leg for leg in closed if leg)

    def reserve(self, link: Link, reserve: worker_pb2.Reserve) -> None:
        """A leg that is not open any more is passed over."""
        if self._ledger.reserve(link.number, reserve.request_id, reserve.kv_tokens):
            self._teller.tell()

    async def revoke(self, revoke: worker_pb2.Revoke) -> None:
        await self._engine.revoke(revoke.ticket_id, revoke.reason)

    async def held_blocks(self) -> Sequence[int]:
        """The keys of the blocks in the device's prefix cache; waits for the step under way."""
        return await self._engine.held_blocks()

    async def report(self) -> worker_pb2.LoadReport:
        """A fresh reading; waits for the step under way."""
        asked_at = self._clock()
        load = await self._engine.report()
        if load.held is not None:
            self._tickets.held(load.held, asked_at)
        self._teller.read(load)
        return self._teller.report()

    def last_load(self) -> MemberLoad:
        """The last reading, for the fleet."""
        return self._teller.last.to_fleet()

    def stop(self) -> None:
        """Nothing is taken any more; what is open is aborted, and its gateway told."""
        self._admission.stop()
        for link in self._links.values():
            legs = self._ledger.close_session(link.number)
            self._give_up(legs)
            for leg in legs:
                link.outbox.put(failure(leg.request_id, Stopping()))
            link.outbox.finish()

    async def _take_steps(self) -> None:
        async for step in self._engine.steps():
            self.deliver(step)

    def deliver(self, step: Step) -> None:
        """Passes a step's outputs on, and its load."""
        outputs = tuple(step.outputs())
        self._note_outputs(outputs)
        for number, names in self._ledger.route(outputs).items():
            frames = [bytes(frame) for frame in step.encode(names)]
            num_bytes = sum(map(len, frames))
            if num_bytes > MAX_STEP_BYTES:
                self._refuse_outputs(self._links[number], names, num_bytes)
                continue
            batch = worker_pb2.StepBatch(outputs=frames)
            self._links[number].outbox.put(worker_pb2.FromWorker(step=batch), num_bytes)
        if step.load is not None:
            self._teller.read(step.load)

    def _note_outputs(self, outputs: Iterable[tuple[str, bool]]) -> None:
        if self._tickets.has_open:
            now = self._clock()
            for engine_id, is_last in outputs:
                self._tickets.output(engine_id, is_last, now)

    def _refuse_outputs(self, link: Link, names: Mapping[str, str], num_bytes: int) -> None:
        for engine_id, request_id in names.items():
            link.outbox.put(failure(request_id, OutputTooLarge(num_bytes)))
            if leg := self._ledger.close(engine_id):
                self._give_up([leg])

    def _outboxes(self) -> Iterator[Outbox]:
        return (link.outbox for link in self._links.values())

    def _give_up(self, legs: Iterable[OpenLeg]) -> None:
        now = self._clock()
        for leg in legs:
            self._orphans.append(leg.engine_id)
            self._tickets.leg_ended(leg.engine_id, now)
        if self._orphans:
            self._has_orphans.set()

    async def _abort_orphans(self) -> None:
        while True:
            await self._has_orphans.wait()
            self._has_orphans.clear()
            orphans, self._orphans = self._orphans, []
            await self._engine.abort(orphans)

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        self._ledger.check_integrity()
        self._tickets.check_integrity()
        self.peers.check_integrity()

    def __repr__(self) -> str:
        return f"<Hub: {len(self._links)} sessions, {self._ledger!r}>"


def failure(request_id: str, error: RequestError) -> worker_pb2.FromWorker:
    return worker_pb2.FromWorker(
        failure=worker_pb2.Failure(
            request_id=request_id,
            code=error.code,
            message=str(error),
            retryable=error.retryable,
        )
    )


def ticket_refused(request_id: str, refusal: TicketRefused) -> worker_pb2.FromWorker:
    return worker_pb2.FromWorker(
        ticket_refused=worker_pb2.TicketRefused(
            request_id=request_id, code=refusal.code, message=str(refusal)
        )
    )
