"""One gateway's stream: its first messages, what it asks, what it is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import grpc
import grpc.aio

from fleet.block_news import pack
from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.greeting import is_signed_by
from proto.ticket import TICKET_BYTES
from worker.errors import (
    EngineGone,
    EngineLost,
    GatewayRefused,
    GatewayTooSlow,
    ProtocolBroken,
    RequestError,
    SessionError,
    SessionOver,
)
from worker.groups import gravest
from worker.hub import Hub, Link, failure

MAX_GATEWAY_ID_LENGTH = 128
# By how much clocks may disagree, and for how long a Hello that was overheard is of use.
MAX_HELLO_AGE_SECONDS = 30.0
MAX_REASON_CHARS = 1024

logger = logging.getLogger(__name__)


class Call(Protocol):
    """gRPC's stream, from the server's side. `read` gives grpc.aio.EOF at its end."""

    async def read(self) -> worker_pb2.ToWorker: ...

    async def write(self, message: worker_pb2.FromWorker) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """A gateway that takes no message for `stall_seconds` loses its session.

    A ping is answered without a load if the engine does not report in `report_seconds`.
    At most `max_questions` pings and revokes are under way; then nothing more is read.
    """

    hello_seconds: float = 5.0
    stall_seconds: float = 10.0
    report_seconds: float = 2.0
    max_questions: int = 32


@dataclass(frozen=True, slots=True)
class Welcomer:
    """What a gateway must know to be welcome, and is told then. `clock` is in Unix seconds."""

    vllm_version: str
    worker: str  # "worker_id/incarnation"
    key: FleetKey
    clock: Callable[[], float] = time.time

    def welcome(self, message: worker_pb2.ToWorker) -> tuple[str, worker_pb2.FromWorker]:
        """The gateway's id, and the answer. Raises SessionError."""
        if message.WhichOneof("message") != "hello":
            raise ProtocolBroken("the first message of a session is Hello")
        hello = message.hello
        if not 0 < len(hello.gateway_id) <= MAX_GATEWAY_ID_LENGTH:
            raise ProtocolBroken(f"a gateway id has 1 to {MAX_GATEWAY_ID_LENGTH} characters")
        if not hello.gateway_id.isprintable():
            raise ProtocolBroken("a gateway id is printable")
        if hello.vllm_version != self.vllm_version:
            raise GatewayRefused(
                f"the gateway has vLLM {hello.vllm_version}, this worker has {self.vllm_version}"
            )
        self._check_signature(hello)
        welcome = worker_pb2.Welcome(incarnation=self.worker.rpartition("/")[2])
        return hello.gateway_id, worker_pb2.FromWorker(welcome=welcome)

    def _check_signature(self, hello: worker_pb2.Hello) -> None:
        if not is_signed_by(self.key, hello, self.worker):
            raise GatewayRefused("the gateway does not have this fleet's key")
        age_seconds = self.clock() - hello.said_at
        if not abs(age_seconds) <= MAX_HELLO_AGE_SECONDS:
            raise GatewayRefused(
                f"the gateway's clock is {abs(age_seconds):.0f} s from this worker's: set both"
            )


class Session:
    """Reads and writes one stream until either side ends it. The hub then aborts the rest."""

    def __init__(
        self, call: Call, hub: Hub, welcomer: Welcomer, limits: SessionLimits | None = None
    ) -> None:
        self._call = call
        self._hub = hub
        self._welcomer = welcomer
        self._limits = limits or SessionLimits()
        self._questions = asyncio.Semaphore(self._limits.max_questions)

    async def run(self) -> None:
        """Returns when the gateway has ended the stream or the hub stops. Raises SessionError."""
        gateway_id, welcome = self._welcomer.welcome(await self._hello())
        link = self._hub.open(gateway_id)
        try:
            await self._write(welcome)
            await self._exchange(link)
        except SessionOver as end:
            logger.info("session %d with %s: %s", link.number, gateway_id, end)
        except EngineLost as lost:
            raise EngineGone(str(lost)) from lost
        finally:
            self._hub.close(link)

    async def _hello(self) -> worker_pb2.ToWorker:
        try:
            async with asyncio.timeout(self._limits.hello_seconds):
                return await self._read()
        except TimeoutError:
            raise ProtocolBroken("no Hello came") from None
        except SessionOver:
            raise ProtocolBroken("the stream ended before Hello") from None

    async def _exchange(self, link: Link) -> None:
        """Ends by SessionError, EngineLost or cancellation."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_all(link, tasks))
                tasks.create_task(self._watch_overflow(link))
                await self._write_all(link)
                raise SessionOver("the worker stops")
        except ExceptionGroup as group:
            raise gravest(group, SessionOver, SessionError, EngineLost) from None

    async def _take_all(self, link: Link, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._take(link, await self._read(), tasks)

    async def _take(
        self, link: Link, message: worker_pb2.ToWorker, tasks: asyncio.TaskGroup
    ) -> None:
        match message.WhichOneof("message"):
            case "submit":
                await self._submit(link, message.submit)
            case "abort":
                self._hub.abort(link, message.abort.request_ids)
            case "reserve":
                self._hub.reserve(link, message.reserve)
            case "ping":
                await self._ask(tasks, partial(self._pong, link, message.ping))
            case "revoke":
                check_revoke(message.revoke)
                await self._ask(tasks, partial(self._hub.revoke, message.revoke))
            case "list_blocks":
                await self._ask(tasks, partial(self._list_blocks, link, message.list_blocks))
            case "introduce":
                self._hub.peers.introduce(link.number, message.introduce)
            case "part":
                self._hub.peers.part(link.number, message.part)
            case "hello":
                raise ProtocolBroken("a session has one Hello")
            case _:
                logger.debug("a message of a later version was ignored")

    async def _submit(self, link: Link, submit: worker_pb2.Submit) -> None:
        try:
            await self._hub.submit(link, submit)
        except RequestError as error:
            logger.info("request refused (%s): %s", error.code, error)
            link.outbox.put(failure(submit.request_id, error))

    async def _ask(
        self, tasks: asyncio.TaskGroup, question: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """The engine answers between steps: the next messages need not wait for it."""
        await self._questions.acquire()
        tasks.create_task(question()).add_done_callback(lambda _: self._questions.release())

    async def _pong(self, link: Link, ping: worker_pb2.Ping) -> None:
        pong = worker_pb2.Pong(nonce=ping.nonce)
        try:
            async with asyncio.timeout(self._limits.report_seconds):
                pong.load.CopyFrom(await self._hub.report())
        except TimeoutError:
            logger.debug("the engine is too busy to report")
        link.outbox.put(worker_pb2.FromWorker(pong=pong))

    async def _list_blocks(self, link: Link, asked: worker_pb2.ListBlocks) -> None:
        keys = pack(await self._hub.held_blocks())
        held = worker_pb2.HeldBlocks(nonce=asked.nonce, keys=keys)
        link.outbox.put(worker_pb2.FromWorker(held_blocks=held), len(keys))

    async def _write_all(self, link: Link) -> None:
        while message := await link.outbox.get():
            await self._write(message)

    async def _write(self, message: worker_pb2.FromWorker) -> None:
        try:
            async with asyncio.timeout(self._limits.stall_seconds):
                await self._call.write(message)
        except TimeoutError:
            seconds = self._limits.stall_seconds
            raise GatewayTooSlow(f"the gateway has read nothing for {seconds:g} s") from None
        except grpc.RpcError as error:
            raise SessionOver("the stream broke") from error

    async def _read(self) -> worker_pb2.ToWorker:
        try:
            message = await self._call.read()
        except grpc.RpcError as error:
            raise SessionOver("the stream broke") from error
        if not isinstance(message, worker_pb2.ToWorker):
            raise SessionOver("the stream ended")
        return message

    async def _watch_overflow(self, link: Link) -> None:
        await link.outbox.overflowed.wait()
        raise GatewayTooSlow(f"the gateway has left too much unread: {link.outbox!r}")


def check_revoke(revoke: worker_pb2.Revoke) -> None:
    """Raises ProtocolBroken: what a worker remembers of a ticket is bounded."""
    if len(revoke.ticket_id) != TICKET_BYTES or len(revoke.reason) > MAX_REASON_CHARS:
        raise ProtocolBroken(
            f"a revoked ticket has an id of {TICKET_BYTES} bytes and a reason of up to "
            f"{MAX_REASON_CHARS} characters"
        )
