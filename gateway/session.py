"""One gRPC stream to one worker, with all of this gateway's requests on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import grpc.aio

from gateway.errors import SessionLost
from proto import worker_pb2

Call = grpc.aio.StreamStreamCall[worker_pb2.ToWorker, worker_pb2.FromWorker]


class SessionEvents(Protocol):
    """What a session brings. `worker` is "worker_id/incarnation"."""

    async def step(self, worker: str, frames: Sequence[bytes]) -> None:
        """The outputs of one engine step. Waiting here slows the worker down.

        Raises ValueError for frames that are not outputs.
        """

    def leg_failed(self, worker: str, failure: worker_pb2.Failure) -> None:
        """The worker gave one leg up."""

    def ticket_refused(self, worker: str, refusal: worker_pb2.TicketRefused) -> None:
        """The worker runs one decode leg without its hand-off."""

    def reported(self, worker: str, report: worker_pb2.LoadReport) -> None:
        """The worker says how loaded it is."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """A worker that leaves two pings unanswered for `pong_seconds` together, or more than
    `max_unsent` messages unread, is lost.
    """

    ping_seconds: float = 5.0
    pong_seconds: float = 15.0
    max_unsent: int = 16384


class WorkerSession:
    """Sends, receives and pings over an open call while `run` runs."""

    def __init__(
        self, worker: str, call: Call, events: SessionEvents, limits: SessionLimits
    ) -> None:
        self.worker = worker
        self.report: worker_pb2.LoadReport | None = None
        self._reported_at = 0.0
        self._call = call
        self._events = events
        self._limits = limits
        self._unsent: asyncio.Queue[worker_pb2.ToWorker] = asyncio.Queue(limits.max_unsent)
        self._overflowed = asyncio.Event()
        self._answers: dict[int, asyncio.Future[worker_pb2.FromWorker]] = {}
        self._heard_at = time.monotonic()
        self._is_taking = False
        self._nonce = 0

    def send(self, message: worker_pb2.ToWorker) -> None:
        """Queues it. If the worker does not read, the session ends; `run` says so."""
        try:
            self._unsent.put_nowait(message)
        except asyncio.QueueFull:
            self._overflowed.set()

    @property
    def report_age_seconds(self) -> float | None:
        """None if there is no report yet."""
        return time.monotonic() - self._reported_at if self.report else None

    async def ping(self, timeout_seconds: float) -> None:
        """`report` is fresh then. Raises TimeoutError."""
        await self._ask(
            lambda nonce: worker_pb2.ToWorker(ping=worker_pb2.Ping(nonce=nonce)), timeout_seconds
        )

    async def held_blocks(self, timeout_seconds: float) -> bytes:
        """The packed keys of the blocks in its device's prefix cache. Raises TimeoutError."""
        answer = await self._ask(
            lambda nonce: worker_pb2.ToWorker(list_blocks=worker_pb2.ListBlocks(nonce=nonce)),
            timeout_seconds,
        )
        return answer.held_blocks.keys

    async def _ask(
        self, question: Callable[[int], worker_pb2.ToWorker], timeout_seconds: float
    ) -> worker_pb2.FromWorker:
        """The message that answers under the question's nonce. Raises TimeoutError."""
        self._nonce += 1
        nonce = self._nonce
        answer = self._answers[nonce] = asyncio.get_running_loop().create_future()
        try:
            self.send(question(nonce))
            async with asyncio.timeout(timeout_seconds):
                message: worker_pb2.FromWorker = await answer
                return message
        finally:
            del self._answers[nonce]

    async def run(self) -> NoReturn:
        """Ends by SessionLost, or by cancellation."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (self._write, self._read, self._keep_alive, self._watch_overflow):
                    tasks.create_task(part())
        except* SessionLost as lost:
            losses = lost
        raise first_of(losses)

    async def _write(self) -> NoReturn:
        while True:
            message = await self._unsent.get()
            try:
                await self._call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise self._lost(error) from error

    async def _read(self) -> NoReturn:
        while True:
            try:
                message = await self._call.read()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise self._lost(error) from error
            if not isinstance(message, worker_pb2.FromWorker):
                raise SessionLost(self.worker, "it closed the session")
            self._heard_at, self._is_taking = time.monotonic(), True
            await self._take(message)
            self._is_taking = False

    async def _take(self, message: worker_pb2.FromWorker) -> None:
        match message.WhichOneof("message"):
            case "step":
                await self._take_step(message.step.outputs)
            case "load":
                self._take_report(message.load)
            case "pong":
                if message.pong.HasField("load"):
                    self._take_report(message.pong.load)
                self._take_answer(message.pong.nonce, message)
            case "failure":
                self._events.leg_failed(self.worker, message.failure)
            case "held_blocks":
                self._take_answer(message.held_blocks.nonce, message)
            case "ticket_refused":
                self._events.ticket_refused(self.worker, message.ticket_refused)
            case other:
                raise SessionLost(self.worker, f"it sent an unexpected message ({other})")

    async def _take_step(self, frames: Sequence[bytes]) -> None:
        try:
            await self._events.step(self.worker, frames)
        except ValueError as error:
            reason = f"it sent outputs that cannot be read ({type(error).__name__})"
            raise SessionLost(self.worker, reason) from error

    def _take_report(self, report: worker_pb2.LoadReport) -> None:
        self.report, self._reported_at = report, time.monotonic()
        self._events.reported(self.worker, report)

    def _take_answer(self, nonce: int, message: worker_pb2.FromWorker) -> None:
        waiting = self._answers.get(nonce)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def _keep_alive(self) -> NoReturn:
        while True:
            # A second try, because the silence may have been ours: a stopped process, say.
            if not (await self._is_answered() or await self._is_answered() or self._is_behind()):
                silence = f"it left pings unanswered for {self._limits.pong_seconds:g} s"
                raise SessionLost(self.worker, silence)
            await asyncio.sleep(self._limits.ping_seconds)

    async def _is_answered(self) -> bool:
        try:
            await self.ping(self._limits.pong_seconds / 2)
        except TimeoutError:
            return False
        return True

    def _is_behind(self) -> bool:
        """The answer may lie behind what this gateway has not taken in yet."""
        age_seconds = time.monotonic() - self._heard_at
        return self._is_taking or age_seconds < self._limits.pong_seconds / 2

    async def _watch_overflow(self) -> NoReturn:
        await self._overflowed.wait()
        raise SessionLost(self.worker, f"it left {self._limits.max_unsent} messages unread")

    def _lost(self, error: Exception) -> SessionLost:
        if isinstance(error, grpc.aio.AioRpcError):
            return SessionLost(self.worker, reason_of(error))
        return SessionLost(self.worker, "it closed the session")

    def __repr__(self) -> str:
        return f"<WorkerSession {self.worker}: {self._unsent.qsize()} unsent>"


def first_of(losses: ExceptionGroup[SessionLost]) -> SessionLost:
    """One of several that came together."""
    found: SessionLost | ExceptionGroup[SessionLost] = losses
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """One line for people."""
    details = (error.details() or "").splitlines()
    return f"{error.code().name.lower()}: {details[0]}" if details else error.code().name.lower()
