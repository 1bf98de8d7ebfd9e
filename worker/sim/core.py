"""A simulated engine core: pure and synchronous, on the clock of its timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kvtransfer.causes import Cause
from worker.sim.answer import TokenRange
from worker.sim.batch import Batch
from worker.sim.blocks import BlockPool
from worker.sim.context import Context, as_tokens
from worker.sim.fabric import SimFabric
from worker.sim.limits import SimLimits
from worker.sim.port import Port
from worker.sim.profile import SimProfile
from worker.sim.request import End, Request, Stage, Task
from worker.sim.scheduler import Scheduler
from worker.sim.tally import Tally
from worker.sim.timeline import Timeline
from worker.work import Work


@dataclass(frozen=True, slots=True)
class Token:
    """What a step has brought for one request; `end` if it is the last."""

    request: Request
    token: int
    is_first: bool = False
    end: End | None = None


class SimCore:
    """Computes step after step while there is something to compute.

    `on_step` gets the tokens of each step, and is called without any when only the load has
    changed.
    """

    def __init__(
        self,
        address: bytes,
        limits: SimLimits,
        profile: SimProfile,
        tokens: TokenRange,
        timeline: Timeline,
        fabric: SimFabric,
    ) -> None:
        self.address = address
        self.port = Port(profile.bandwidth)
        self.pool = BlockPool(limits.num_blocks, limits.block_size)
        self.tally = Tally()
        self.work = Work()
        self.sends: dict[bytes, Request] = {}
        self.loads: dict[bytes, Request] = {}
        self.on_step: Callable[[list[Token]], None] = lambda tokens: None
        self._limits = limits
        self._profile = profile
        self._tokens = tokens
        self._timeline = timeline
        self._fabric = fabric
        self._requests: dict[str, Request] = {}
        self._scheduler = Scheduler(
            limits, self.pool, self._start_load, self._decline, self._preempted
        )
        self._batch: Batch | None = None
        self._is_planning = False
        fabric.join(self)

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        return len(self._scheduler.waiting) + len(self._scheduler.loading)

    @property
    def is_idle(self) -> bool:
        """No step is under way."""
        return self._batch is None

    def submit(self, task: Task) -> None:
        request = Request(task, Context(self.pool), self._timeline.now)
        self._requests[task.engine_id] = request
        self._scheduler.waiting.append(request)
        if request.is_source:
            assert request.ticket is not None
            self.sends[request.ticket] = request
            self._fabric.offer(request.ticket, self, request)
        self._kick()

    def abort(self, engine_ids: Iterable[str]) -> None:
        """They end at once, without a last token. Ids that are not open are ignored."""
        for engine_id in engine_ids:
            if request := self._requests.pop(engine_id, None):
                self._scheduler.drop(request)
                self._let_go(request, Cause.ABORTED if request.is_source else Cause.CANCELLED)
        self._kick()

    def revoke(self, ticket: bytes) -> bool:
        """The ticket's KV will not be moved. False if it is not open here."""
        waiting = [each for each in self._scheduler.waiting if each.ticket == ticket]
        for request in waiting:
            if request.is_target:
                request.ticket = None
        is_open = bool(waiting) or ticket in self.sends or ticket in self.loads
        return (self._fabric.end(ticket, Cause.REVOKED) or is_open) and is_open

    def part(self, sources: Iterable[bytes]) -> None:
        """Nothing more comes from there."""
        for source in sources:
            self._fabric.end_between(source, self)

    def sent(self, request: Request, exposed_seconds: float) -> None:
        self.tally.sent(exposed_seconds)
        self._send_ended(request)

    def send_failed(self, request: Request, cause: Cause) -> None:
        self.tally.failed("send", cause)
        self._send_ended(request)

    def loaded(self, request: Request, seconds: float) -> None:
        self.tally.loaded(seconds)
        request.num_loaded = request.context.num_tokens - request.num_cached
        request.store_blocks()
        self._load_ended(request)

    def load_failed(self, request: Request, cause: Cause) -> None:
        """What is lacking is computed here."""
        if cause is not Cause.CANCELLED:
            self.tally.failed("load", cause)
        self._load_ended(request)

    def held_bytes(self, bytes_per_block: int) -> dict[bytes, int]:
        """KV that is kept or waited for, by ticket."""
        tickets = self.sends | self.loads
        return {
            ticket: len(request.context.blocks) * bytes_per_block
            for ticket, request in tickets.items()
        }

    def _send_ended(self, request: Request) -> None:
        assert request.ticket is not None
        del self.sends[request.ticket]
        request.ticket = None
        if request.stage is Stage.ENDED:
            request.context.clear()
            self._kick()

    def _load_ended(self, request: Request) -> None:
        assert request.ticket is not None
        del self.loads[request.ticket]
        request.ticket = None
        if request.stage is Stage.LOADING:
            self._scheduler.put_first(request)
            self._kick()

    def _start_load(self, request: Request) -> None:
        assert request.ticket is not None
        self.loads[request.ticket] = request
        self._fabric.demand(request.ticket, self, request)

    def _decline(self, request: Request) -> None:
        assert request.ticket is not None
        ticket, request.ticket = request.ticket, None
        self._fabric.decline(ticket)

    def _preempted(self, request: Request) -> None:
        self.work = self.work.with_preempted(1)
        if request.is_source:
            assert request.ticket is not None
            self._fabric.lost_blocks(request.ticket)

    def _let_go(self, request: Request, cause: Cause) -> None:
        """An ended request's blocks, unless they are still to be sent."""
        if request.ticket is not None and cause is not Cause.USED:
            self._fabric.end(request.ticket, cause)
        if request.ticket is None or not request.is_source:
            request.context.clear()

    def _kick(self) -> None:
        """Starts a step if none is under way and there is something to compute."""
        if self._batch is not None or self._is_planning:
            return
        self._is_planning = True
        self._batch = self._scheduler.plan(self._timeline.now)
        self._is_planning = False
        if self._batch is not None:
            ends_at = self._timeline.now + self._batch.seconds(self._profile)
            self._timeline.call_at(ends_at, self._end_step)
        elif self._scheduler.loading:
            self.on_step([])

    def _end_step(self) -> None:
        batch = self._batch
        assert batch is not None
        tokens: list[Token] = []
        running = Stage.RUNNING
        for request, num_tokens in batch.parts:
            if request.stage is running:
                self._advance(request, num_tokens, tokens)
                if request.ticket is not None:
                    self._fabric.computed(request.ticket, batch.began)
        seconds = self._timeline.now - batch.began
        step = seconds, batch.num_prefill_tokens, batch.num_decodes
        self.work = self.work.after_step(*step)
        self._scheduler.pieces.note(*step)
        for each in tokens:
            if each.end is not None:
                self._finish(each.request)
        self._batch = None
        self._kick()
        self.on_step(tokens)

    def _advance(self, request: Request, num_tokens: int, tokens: list[Token]) -> None:
        context, first = request.context, request.context.num_tokens
        if num_tokens == 1:
            digest = context.append(request.tokens[first])
        else:
            digest = context.compute(as_tokens(request.tokens)[first : first + num_tokens])
        if context.num_tokens // self._limits.block_size > request.num_stored:
            request.store_blocks()
        if context.num_tokens == len(request.tokens):
            token = self._tokens.pick(digest)
            end = request.add(token, self._limits.max_model_len)
            if is_first := request.num_outputs == 1:
                self.work = self.work.with_cached(request.num_cached + request.num_loaded)
            tokens.append(Token(request, token, is_first, end))

    def _finish(self, request: Request) -> None:
        del self._requests[request.task.engine_id]
        self._scheduler.drop(request)
        self._let_go(request, Cause.USED)

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        requests = [*self._requests.values()]
        kept = [each for each in self.sends.values() if each.stage is Stage.ENDED]
        self.pool.check_integrity(each.context.blocks for each in (*requests, *kept))
        scheduler = self._scheduler
        stages = {
            Stage.WAITING: list(scheduler.waiting),
            Stage.LOADING: list(scheduler.loading),
            Stage.RUNNING: scheduler.running,
        }
        for stage, members in stages.items():
            assert all(each.stage is stage for each in members), self
        assert sum(map(len, stages.values())) == len(requests), self
        assert set(scheduler.loading) == set(self.loads.values()), self
        assert len(scheduler.running) <= self._limits.max_running, self

    def __repr__(self) -> str:
        return f"<SimCore {self.address.decode()}: {self._scheduler!r}, {self.pool!r}>"
