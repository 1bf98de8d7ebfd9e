"""Runs requests on the fleet: carries decisions out and brings the outputs together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from gateway.actions import Abort, Action, Fail, Leg, Reserve, Revoke, Submit
from gateway.codec import DecodeOutputs, Output, StepOutputs, ended_well, transfer_params_of
from gateway.errors import RequestError, ShuttingDown, WorkerFailed, WorkerFull, WorkerRefused
from gateway.request import Request
from gateway.request_book import RequestBook
from gateway.request_life import Outcome, RequestLife, Stage
from gateway.session import WorkerSession
from proto import worker_pb2

MAX_STEPS_QUEUED = 256
# Below what one session may have unsent, so that one client cannot make it look stuck.
MAX_OPEN_REQUESTS = 8192
SWEEP_SECONDS = 0.25
QUEUE_SECONDS = 0.01
# Of proto Failure: the same request would be refused everywhere.
BAD_REQUEST = "bad_request"
# The decode worker has promised its room to others.
NO_CREDIT = "no_credit"
ROLES = {Leg.PREFILL: worker_pb2.ROLE_PREFILL, Leg.DECODE: worker_pb2.ROLE_DECODE}

logger = logging.getLogger(__name__)


class Sessions(Protocol):
    def session(self, worker: str) -> WorkerSession | None:
        """The open session with "worker_id/incarnation", if there is one."""


class FleetClient:
    """Takes requests in, gives the decode legs' outputs out, in order, over one queue.

    `on_failure` is told once of each request that ends by an error; no output follows.
    """

    def __init__(
        self,
        book: RequestBook,
        sessions: Sessions,
        decode: DecodeOutputs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_failure: Callable[[str, RequestError], None] = lambda request_id, error: None
        self._book = book
        self._sessions = sessions
        self._decode = decode
        self._clock = clock
        self._steps: asyncio.Queue[StepOutputs] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._actions: deque[Action] = deque()
        self._is_acting = False
        self._idle = asyncio.Event()
        self._is_queued = asyncio.Event()

    def has_room(self, num_requests: int) -> bool:
        """So many more may be submitted."""
        return len(self._book.lives) + num_requests <= MAX_OPEN_REQUESTS

    def block_sizes(self) -> Sequence[int]:
        """Of the workers' caches, in tokens."""
        return self._book.dispatcher.table.block_sizes()

    def now(self) -> float:
        """Of the clock that requests' deadlines are told by."""
        return self._clock()

    def submit(self, request: Request) -> None:
        """Its outputs come out of `next_step`, or its failure by `on_failure`."""
        self._do(self._book.add(request, self._clock()))

    def abort(self, request_ids: Iterable[str], outcome: Outcome = Outcome.ABORTED) -> None:
        """Frees them on every worker. Unknown ids have ended already."""
        self._do(self._book.abort(request_ids, self._clock(), outcome))

    def fail_all(self, error: RequestError) -> None:
        self._do(self._book.fail_all(error, self._clock()))

    async def drain(self, timeout_seconds: float) -> None:
        """Lets what is open end by itself for that long, and then fails the rest."""
        self._note_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        self.fail_all(ShuttingDown())

    async def next_step(self) -> StepOutputs:
        step = await self._steps.get()
        if self._steps.qsize() < MAX_STEPS_QUEUED:
            self._has_room.set()
        return step

    async def run(self) -> NoReturn:
        """Watches over the deadlines and, while somebody waits, over the queue."""
        swept = self._clock()
        while True:
            await self._pause()
            now = self._clock()
            if now - swept < SWEEP_SECONDS:
                self._do(self._book.begin(now))
            else:
                swept = now
                self._do(self._book.overdue(now))

    async def _pause(self) -> None:
        """Short while somebody waits: by then a worker will have computed what it was handed."""
        if self._is_queued.is_set():
            await asyncio.sleep(QUEUE_SECONDS)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_SECONDS):
                await self._is_queued.wait()

    async def step(self, worker: str, frames: Sequence[bytes]) -> None:
        """The outputs of one engine step of `worker`. Raises ValueError.

        Waits while MAX_STEPS_QUEUED steps are queued: each session adds one at most.
        """
        step = self._decode(frames)
        if self._observe(worker, step):
            # Not to be cancelled between the two: the lives have moved on.
            self._steps.put_nowait(step)
        if self._steps.qsize() >= MAX_STEPS_QUEUED:
            self._has_room.clear()
            await self._has_room.wait()

    def leg_failed(self, worker: str, failure: worker_pb2.Failure) -> None:
        error = error_of(worker, failure)
        self._do(self._book.leg_failed(worker, failure.request_id, error, self._clock()))

    def ticket_refused(self, worker: str, refusal: worker_pb2.TicketRefused) -> None:
        logger.warning(
            "%s computes a prompt itself (%s): %s", worker, refusal.code, refusal.message
        )
        self._do(self._book.ticket_refused(worker, refusal.request_id, self._clock()))

    def reported(self, worker: str, report: worker_pb2.LoadReport) -> None:
        self._book.reported(worker, report, self._clock())

    def worker_lost(self, worker: str) -> None:
        self._do(self._book.worker_lost(worker, self._clock()))

    def _observe(self, worker: str, step: StepOutputs) -> bool:
        """Moves the lives on; leaves in `step` what the front half shall see, if anything."""
        now = self._clock()
        deadline = now + self._book.timeouts.between_tokens
        lives, rest = self._book.lives, []
        for output in step.outputs:
            life = lives.get(output.request_id)
            if (
                life is not None
                and life.stage is Stage.STREAMING
                and output.finish_reason is None
                and life.decode_worker == worker
            ):
                life.deadline = deadline
                life.num_outputs += len(output.new_token_ids)
                if life.num_outputs > life.room_for_outputs:
                    self._do(self._book.grown(life, now))
                rest.append(output)
            elif self._turn(worker, life, output, now):
                rest.append(output)
        step.outputs = rest
        return bool(rest)

    def _turn(self, worker: str, life: RequestLife | None, output: Output, now: float) -> bool:
        """A first or last output. True if the front half shall see it."""
        if life is None:
            self._prefill_output(worker, output, now)
            return False
        if life.decode_worker != worker:
            return False
        if output.finish_reason is not None and not ended_well(output):
            reason = f"the engine ended it by {output.finish_reason}"
            self._do(self._book.failed(life, WorkerFailed(worker, reason), now))
            return False
        life.num_outputs += len(output.new_token_ids)
        if life.stage is not Stage.STREAMING:
            self._do(self._book.first_token(life, now))
        if output.finish_reason is not None:
            self._do(self._book.finished(life, now))
        return True

    def _prefill_output(self, worker: str, output: Output, now: float) -> None:
        if output.finish_reason is None:
            return
        if ended_well(output):
            params = transfer_params_of(output)
            self._do(self._book.prefill_ended(output.request_id, now, params))
        else:
            error = WorkerFailed(worker, f"the engine ended it by {output.finish_reason}")
            self._do(self._book.leg_failed(worker, output.request_id, error, now))

    def _do(self, actions: list[Action]) -> None:
        """Carries them out in the order in which they were decided, whoever decides amid it."""
        self._actions.extend(actions)
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._actions:
                self._act(self._actions.popleft())
        finally:
            self._is_acting = False
        self._note_idle()

    def _note_idle(self) -> None:
        note(self._idle, not self._book.lives)
        note(self._is_queued, self._book.dispatcher.num_waiting > 0)

    def _act(self, action: Action) -> None:
        if isinstance(action, Fail):
            self._fail(action)
        elif session := self._sessions.session(action.worker):
            session.send(message_of(action))
        elif isinstance(action, Submit):
            error = WorkerFailed(action.worker, "it is not connected", is_retryable=True)
            self._do(self._book.leg_failed(action.worker, action.leg_id, error, self._clock()))

    def _fail(self, action: Fail) -> None:
        if action.request.exchange is not None:
            action.request.exchange.fail(action.error)
        logger.info("request %s failed: %s", action.request.request_id, action.error)
        self.on_failure(action.request.request_id, action.error)

    def __repr__(self) -> str:
        return f"<FleetClient {self._book!r}, {self._steps.qsize()} steps queued>"


def note(event: asyncio.Event, is_so: bool) -> None:
    if is_so:
        event.set()
    else:
        event.clear()


def error_of(worker: str, failure: worker_pb2.Failure) -> RequestError:
    """What a worker's refusal means for the client."""
    reason = failure.message or failure.code
    if failure.code == BAD_REQUEST:
        return WorkerRefused(reason)
    if failure.code == NO_CREDIT:
        return WorkerFull(worker, reason, is_retryable=True)
    return WorkerFailed(worker, reason, failure.retryable)


def message_of(action: Submit | Reserve | Abort | Revoke) -> worker_pb2.ToWorker:
    """The action as it crosses the border."""
    match action:
        case Submit():
            return worker_pb2.ToWorker(
                submit=worker_pb2.Submit(
                    request_id=action.leg_id,
                    leg=ROLES[action.leg],
                    request=action.request.frames,
                    ticket=action.ticket.to_proto() if action.ticket else None,
                    transfer_params=action.transfer_params,
                    kv_tokens=action.kv_tokens,
                )
            )
        case Reserve():
            return worker_pb2.ToWorker(
                reserve=worker_pb2.Reserve(request_id=action.leg_id, kv_tokens=action.kv_tokens)
            )
        case Abort():
            return worker_pb2.ToWorker(abort=worker_pb2.Abort(request_ids=[action.leg_id]))
        case Revoke():
            return worker_pb2.ToWorker(
                revoke=worker_pb2.Revoke(ticket_id=action.ticket_id, reason=action.reason)
            )
