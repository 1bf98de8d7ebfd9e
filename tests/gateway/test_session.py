from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from fleet.member import Role
from gateway.errors import SessionLost, WorkerUnreachable
from gateway.session import SessionLimits, WorkerSession
from gateway.worker_connection import describe, open_channel, open_session
from proto import worker_pb2
from tests.gateway.builders import PATIENCE_SECONDS
from tests.gateway.stand_in_worker import Fabric, Job, PlainWire, StandInWorker, serving

HELLO = worker_pb2.Hello(gateway_id="g", vllm_version="0.32.0")
WIRE = PlainWire()


class Recorder:
    """What a session brought."""

    def __init__(self) -> None:
        self.is_free = asyncio.Event()
        self.is_free.set()
        self.steps: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self.failures: asyncio.Queue[worker_pb2.Failure] = asyncio.Queue()
        self.refusals: asyncio.Queue[worker_pb2.TicketRefused] = asyncio.Queue()

    async def step(self, worker: str, frames: Sequence[bytes]) -> None:
        WIRE.decode(frames)
        await self.is_free.wait()
        await self.steps.put(list(frames))

    def leg_failed(self, worker: str, failure: worker_pb2.Failure) -> None:
        self.failures.put_nowait(failure)

    def ticket_refused(self, worker: str, refusal: worker_pb2.TicketRefused) -> None:
        self.refusals.put_nowait(refusal)

    def reported(self, worker: str, report: worker_pb2.LoadReport) -> None: ...


@asynccontextmanager
async def connected(
    worker: StandInWorker, limits: SessionLimits | None = None, key: str | None = None
) -> AsyncIterator[tuple[WorkerSession, Recorder]]:
    recorder = Recorder()
    limits = limits or SessionLimits()
    async with (
        serving(worker),
        asyncio.timeout(PATIENCE_SECONDS),
        open_channel(worker.member.address) as stub,
        open_session(stub, key or worker.key, HELLO, recorder, limits, 2.0) as session,
    ):
        yield session, recorder


def make_worker() -> StandInWorker:
    return StandInWorker("decode-0", Role.DECODE, WIRE, Fabric())


def submit(request_id: str, max_tokens: int = 2) -> worker_pb2.ToWorker:
    frames = WIRE.request(Job((1, 2), max_tokens))
    return worker_pb2.ToWorker(
        submit=worker_pb2.Submit(request_id=request_id, leg=worker_pb2.ROLE_DECODE, request=frames)
    )


async def test_a_worker_describes_itself() -> None:
    worker = make_worker()
    async with serving(worker), open_channel(worker.member.address) as stub:
        description = await describe(stub, worker.key, 2.0)
    assert description.worker_id == "decode-0"


async def test_nobody_at_the_address() -> None:
    async with open_channel("127.0.0.1:1") as stub:
        with pytest.raises(WorkerUnreachable, match="worker decode-0/1: unavailable"):
            await describe(stub, "decode-0/1", 2.0)


async def test_a_silent_address_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with open_channel(f"127.0.0.1:{silent.getsockname()[1]}") as stub:
            with pytest.raises(WorkerUnreachable, match=r"no answer within 0\.05 s"):
                await describe(stub, "decode-0/1", 0.05)


async def test_another_incarnation_at_the_address_is_not_taken_for_this_one() -> None:
    worker = make_worker()
    with pytest.raises(WorkerUnreachable, match="answers at its address"):
        async with connected(worker, key="decode-0/older"):
            pass


async def test_requests_go_out_and_steps_come_in() -> None:
    worker = make_worker()
    async with connected(worker) as (session, recorder):
        running = asyncio.ensure_future(session.run())
        session.send(submit("a"))
        outputs = [WIRE.decode(await recorder.steps.get()).outputs[0] for _ in range(2)]
        running.cancel()
    assert [output.finish_reason for output in outputs] == [None, "length"]


async def test_a_failure_comes_in() -> None:
    worker = make_worker()
    worker.behaviour.refuse_with = "draining"
    async with connected(worker) as (session, recorder):
        running = asyncio.ensure_future(session.run())
        session.send(submit("a"))
        assert (await recorder.failures.get()).message == "draining"
        running.cancel()


async def test_a_ping_brings_a_fresh_report() -> None:
    worker = make_worker()
    async with connected(worker) as (session, _):
        running = asyncio.ensure_future(session.run())
        await session.ping(5.0)
        assert session.report is not None
        assert session.report.num_kv_blocks == 100
        running.cancel()


async def test_a_worker_that_stops_ends_the_session() -> None:
    worker = make_worker()
    async with connected(worker) as (session, _):
        running = asyncio.ensure_future(session.run())
        await session.ping(5.0)
        await worker.stop()
        with pytest.raises(SessionLost, match="decode-0"):
            await running


async def test_a_worker_that_answers_no_pings_is_lost() -> None:
    worker = make_worker()
    worker.behaviour.answers_pings = False
    async with connected(worker, SessionLimits(pong_seconds=0.05)) as (session, _):
        with pytest.raises(SessionLost, match=r"left pings unanswered for 0\.05 s"):
            await session.run()


async def test_a_worker_is_not_lost_for_what_this_gateway_has_not_read() -> None:
    worker, is_free = make_worker(), asyncio.Event()
    async with connected(worker, SessionLimits(pong_seconds=0.05)) as (session, recorder):
        recorder.is_free = is_free
        running = asyncio.ensure_future(session.run())
        session.send(submit("r"))
        await asyncio.sleep(0.3)
        assert not running.done()
        is_free.set()
        await recorder.steps.get()
        await session.ping(5.0)
        assert not running.done()
        running.cancel()


async def test_one_missed_ping_is_forgiven() -> None:
    worker = make_worker()
    worker.behaviour.answers_pings = False
    async with connected(worker, SessionLimits(ping_seconds=0.01, pong_seconds=1)) as (session, _):
        running = asyncio.ensure_future(session.run())
        with pytest.raises(TimeoutError):
            await session.ping(0.6)
        worker.behaviour.answers_pings = True
        await session.ping(5.0)
        assert not running.done()
        running.cancel()


async def test_a_worker_that_does_not_read_is_lost() -> None:
    worker = make_worker()
    async with connected(worker, SessionLimits(max_unsent=3)) as (session, _):
        for number in range(4):
            session.send(submit(str(number)))
        with pytest.raises(SessionLost, match="left 3 messages unread"):
            await session.run()


async def test_outputs_that_cannot_be_read_end_the_session() -> None:
    worker = make_worker()
    worker.behaviour.garbles_outputs = True
    async with connected(worker) as (session, _):
        session.send(submit("a"))
        with pytest.raises(SessionLost, match="outputs that cannot be read"):
            await session.run()


async def test_an_ended_session_frees_the_worker() -> None:
    worker = make_worker()
    worker.behaviour.decode_may_go_on.clear()
    async with serving(worker), asyncio.timeout(PATIENCE_SECONDS):
        async with (
            open_channel(worker.member.address) as stub,
            open_session(stub, worker.key, HELLO, Recorder(), SessionLimits(), 2.0) as session,
        ):
            running = asyncio.ensure_future(session.run())
            session.send(submit("a"))
            await worker.until(lambda: worker.open_legs)
            running.cancel()
        await worker.until(lambda: not worker.num_sessions and not worker.open_legs)


async def test_repr_shows_what_is_unsent() -> None:
    worker = make_worker()
    async with connected(worker) as (session, _):
        session.send(submit("a"))
        assert repr(session) == f"<WorkerSession {worker.key}: 1 unsent>"
