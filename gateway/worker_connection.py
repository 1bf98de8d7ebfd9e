"""Reaching one worker: the channel, its description, the session's first messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio

from gateway.errors import WorkerUnreachable
from gateway.session import Call, SessionEvents, SessionLimits, WorkerSession, reason_of
from proto import worker_pb2
from proto.worker_pb2_grpc import WorkerStub

if TYPE_CHECKING:
    from proto.worker_pb2_grpc import WorkerAsyncStub

MAX_MESSAGE_BYTES = 64 * 2**20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A proxy of the environment has no business between gateway and worker.
    ("grpc.enable_http_proxy", 0),
)


@asynccontextmanager
async def open_channel(address: str) -> AsyncIterator[WorkerAsyncStub]:
    """The worker at "host:port"; connects at the first call."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield WorkerStub(channel)


async def describe(
    stub: WorkerAsyncStub, worker: str, timeout_seconds: float
) -> worker_pb2.Description:
    """Raises WorkerUnreachable, also if another incarnation answers."""
    async with reaching(worker, timeout_seconds):
        description: worker_pb2.Description = await stub.Describe(worker_pb2.DescribeRequest())
    check_identity(worker, f"{description.worker_id}/{description.incarnation}")
    return description


@asynccontextmanager
async def open_session(
    stub: WorkerAsyncStub,
    worker: str,
    hello: worker_pb2.Hello,
    events: SessionEvents,
    limits: SessionLimits,
    timeout_seconds: float,
) -> AsyncIterator[WorkerSession]:
    """Raises WorkerUnreachable. At the end the worker aborts what is still open."""
    call: Call = stub.Session()
    try:
        async with reaching(worker, timeout_seconds):
            incarnation = await greet(call, hello)
        check_identity(worker, f"{worker.rpartition('/')[0]}/{incarnation}")
        yield WorkerSession(worker, call, events, limits)
    finally:
        call.cancel()


async def greet(call: Call, hello: worker_pb2.Hello) -> str:
    """The incarnation that answers; empty if it hangs up."""
    await call.write(worker_pb2.ToWorker(hello=hello))
    message = await call.read()
    return message.welcome.incarnation if isinstance(message, worker_pb2.FromWorker) else ""


def check_identity(expected: str, found: str) -> None:
    if found != expected:
        raise WorkerUnreachable(expected, f"{found} answers at its address")


@asynccontextmanager
async def reaching(worker: str, timeout_seconds: float) -> AsyncIterator[None]:
    """Bounds the calls inside and turns every failure of theirs into WorkerUnreachable."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except TimeoutError as error:
        raise WorkerUnreachable(worker, f"no answer within {timeout_seconds:g} s") from error
    except grpc.aio.AioRpcError as error:
        raise WorkerUnreachable(worker, reason_of(error)) from error
    except asyncio.InvalidStateError as error:
        raise WorkerUnreachable(worker, "it hung up") from error
