from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from fleet.block_news import unpack
from proto import worker_pb2
from tests.proto.builders import OTHER_KEY, TICKET_ID, make_ticket
from tests.worker.builders import make_introduction, make_prefill, make_submit
from tests.worker.gateway import Gateway, serve
from worker.leg import Role
from worker.load import Load
from worker.session import SessionLimits


async def test_a_worker_describes_itself() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        described = await gateway.stub.Describe(worker_pb2.DescribeRequest())
        assert (described.worker_id, described.incarnation) == ("worker-0", "abc")
        assert list(described.roles) == [worker_pb2.ROLE_PREFILL, worker_pb2.ROLE_DECODE]
        assert described.capacity.num_kv_blocks == 100
        assert list(described.transfer_addresses) == [b"here"]
        assert described.model_fingerprint == "model"


async def test_a_session_starts_with_a_welcome_and_a_load() -> None:
    async with serve() as worker:
        gateway = Gateway(worker.address)
        assert (await gateway.greet()).welcome.incarnation == "abc"
        assert (await gateway.read()).HasField("load")
        await gateway.close()


async def test_outputs_come_back_under_the_gateways_id() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("r"))
        await worker.engine.until(lambda: worker.engine.orders)
        engine_id = worker.engine.id_of("r")
        worker.engine.step(engine_id)
        worker.engine.step(engine_id, ended=[engine_id])
        for _ in range(2):
            assert list((await gateway.read_next("step")).step.outputs) == [b"r"]
        assert worker.ledger.num_open(Role.DECODE) == 0


async def test_a_bad_submit_fails_alone() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("bad", frames=[b"bad"]))
        await gateway.submit(make_submit("unknown", leg=77))
        await gateway.submit(make_submit("good"))
        await gateway.submit(make_submit("good"))
        failures = [(await gateway.read_next("failure")).failure for _ in range(3)]
        assert [(f.request_id, f.code) for f in failures] == [
            ("bad", "bad_request"),
            ("unknown", "bad_request"),
            ("good", "duplicate_request"),
        ]
        worker.engine.step(worker.engine.id_of("good"))
        assert list((await gateway.read_next("step")).step.outputs) == [b"good"]


async def test_an_abort_frees_the_request() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("r"))
        await gateway.send(abort=worker_pb2.Abort(request_ids=["r", "unknown"]))
        await worker.engine.until(lambda: worker.engine.aborted)
        assert worker.engine.aborted == [worker.engine.id_of("r")]


@pytest.mark.parametrize("end", ["hangs up", "vanishes", "closes its channel"])
async def test_when_a_session_ends_its_requests_are_aborted_and_no_others(end: str) -> None:
    async with serve() as worker, worker.gateway("stays") as other:
        await other.submit(make_submit("theirs"))
        async with worker.gateway("goes") as gateway:
            await gateway.submit(make_submit("a"))
            await gateway.submit(make_submit("b"))
            await worker.engine.until(lambda: len(worker.engine.orders) == 3)
            if end == "hangs up":
                await gateway.hang_up()
            elif end == "vanishes":
                gateway.vanish()
            else:
                await gateway.close()
            await worker.engine.until(lambda: len(worker.engine.aborted) == 2)
        assert set(worker.engine.aborted) == {worker.engine.id_of(name) for name in "ab"}
        worker.engine.step(worker.engine.id_of("theirs"))
        assert list((await other.read_next("step")).step.outputs) == [b"theirs"]


async def test_a_ping_is_answered_with_a_fresh_load() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        worker.engine.load = Load(num_waiting=7)
        await gateway.send(ping=worker_pb2.Ping(nonce=5))
        pong = (await gateway.read_next("pong")).pong
        assert (pong.nonce, pong.load.num_waiting) == (5, 7)


async def test_a_busy_engine_delays_neither_requests_nor_the_sign_of_life() -> None:
    async with serve(SessionLimits(report_seconds=0.05)) as worker, worker.gateway() as gateway:
        worker.engine.idle.clear()
        await gateway.send(ping=worker_pb2.Ping(nonce=1))
        await gateway.submit(make_submit("r"))
        await worker.engine.until(lambda: worker.engine.orders)
        pong = (await gateway.read_next("pong")).pong
        assert pong.nonce == 1
        assert not pong.HasField("load")


async def test_a_revoke_reaches_the_engine() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.send(revoke=worker_pb2.Revoke(ticket_id=TICKET_ID, reason="lost"))
        await worker.engine.until(lambda: worker.engine.revoked)
        assert worker.engine.revoked == [(TICKET_ID, "lost")]


async def test_a_leg_may_outgrow_what_was_reserved_for_it() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("r", kv_tokens=100))
        await gateway.send(reserve=worker_pb2.Reserve(request_id="r", kv_tokens=700))
        await gateway.send(reserve=worker_pb2.Reserve(request_id="unknown", kv_tokens=1))
        async with asyncio.timeout(5):
            while (await gateway.read_next("load")).load.num_reserved_tokens != 700:
                pass


async def test_another_vllm_version_is_refused_naming_both() -> None:
    async with serve() as worker:
        gateway = Gateway(worker.address)
        with pytest.raises(grpc.RpcError):
            await gateway.greet(vllm_version="0.31.0")
        code, details = await gateway.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "0.31.0" in details
        assert "0.32.0" in details
        await gateway.close()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param({"ping": worker_pb2.Ping(nonce=1)}, id="no hello"),
        pytest.param({"hello": worker_pb2.Hello(vllm_version="0.32.0")}, id="no name"),
    ],
)
async def test_a_session_begins_with_hello(first: dict[str, object]) -> None:
    async with serve() as worker:
        gateway = Gateway(worker.address)
        await gateway.send(**first)
        assert (await gateway.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
        await gateway.close()


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        pytest.param({"key": OTHER_KEY}, "does not have this fleet's key", id="another key"),
        pytest.param({"age_seconds": 60.0}, "60 s from this worker's", id="overheard"),
        pytest.param({"age_seconds": -60.0}, "60 s from this worker's", id="clock ahead"),
        pytest.param({"age_seconds": float("nan")}, "clock", id="no time"),
    ],
)
async def test_a_stranger_gets_no_session(greeting: dict[str, Any], reason: str) -> None:
    async with serve() as worker:
        gateway = Gateway(worker.address)
        with pytest.raises(grpc.RpcError):
            await gateway.greet(**greeting)
        code, details = await gateway.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert reason in details
        await gateway.close()


@pytest.mark.parametrize(
    "revoke",
    [
        pytest.param(worker_pb2.Revoke(ticket_id=bytes(2**20)), id="long id"),
        pytest.param(worker_pb2.Revoke(), id="no id"),
        pytest.param(worker_pb2.Revoke(ticket_id=TICKET_ID, reason="x" * 2000), id="long reason"),
    ],
)
async def test_a_revoke_that_is_none_ends_the_session(revoke: worker_pb2.Revoke) -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.send(revoke=revoke)
        assert (await gateway.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert worker.engine.revoked == []


async def test_a_silent_stream_is_closed() -> None:
    async with serve(SessionLimits(hello_seconds=0.05)) as worker:
        gateway = Gateway(worker.address)
        assert await gateway.end() == (grpc.StatusCode.INVALID_ARGUMENT, "no Hello came")
        await gateway.close()


async def test_a_second_hello_ends_the_session() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.send(hello=worker_pb2.Hello(gateway_id="again", vllm_version="0.32.0"))
        assert (await gateway.end())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_of_a_later_version_is_ignored() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.send()
        await gateway.send(ping=worker_pb2.Ping(nonce=1))
        assert (await gateway.read_next("pong")).pong.nonce == 1


async def test_a_gateway_that_does_not_read_loses_its_session_and_its_requests() -> None:
    async with serve(SessionLimits(stall_seconds=0.1)) as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("r"))
        await worker.engine.until(lambda: worker.engine.orders)
        big = worker_pb2.FromWorker(step=worker_pb2.StepBatch(outputs=[bytes(2**20)]))
        (link,) = worker.hub._links.values()
        for _ in range(64):
            link.outbox.put(big, 2**20)
        await worker.engine.until(lambda: worker.engine.aborted)
        assert worker.engine.aborted == [worker.engine.id_of("r")]


async def test_an_overflowing_session_ends_at_once() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("r"))
        await worker.engine.until(lambda: worker.engine.orders)
        (link,) = worker.hub._links.values()
        link.outbox.overflowed.set()
        assert (await gateway.end())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await worker.engine.until(lambda: worker.engine.aborted)


async def test_a_stopping_worker_says_so_and_ends_the_session_well() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_submit("r"))
        await worker.engine.until(lambda: worker.engine.orders)
        worker.hub.stop()
        failure = (await gateway.read_next("failure")).failure
        assert (failure.request_id, failure.code) == ("r", "stopping")
        assert (await gateway.end())[0] is grpc.StatusCode.OK
        await worker.engine.until(lambda: worker.engine.aborted)


async def test_a_dead_engine_ends_the_session() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        worker.engine.die()
        await gateway.send(ping=worker_pb2.Ping(nonce=1))
        assert (await gateway.end())[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_defect_ends_one_session_and_says_nothing_of_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve() as worker, worker.gateway() as gateway:

        async def fail(order: object) -> None:
            raise KeyError("a secret of the prompt")

        monkeypatch.setattr(worker.engine, "submit", fail)
        await gateway.submit(make_submit("r"))
        code, details = await gateway.end()
        assert (code, details) == (grpc.StatusCode.INTERNAL, "a defect of the worker (KeyError)")
        await worker.engine.until(lambda: worker.engine.aborted)


async def test_many_questions_are_answered_each() -> None:
    limits = SessionLimits(max_questions=2)
    async with serve(limits) as worker, worker.gateway() as gateway:
        for nonce in range(20):
            await gateway.send(ping=worker_pb2.Ping(nonce=nonce))
        async with asyncio.timeout(5):
            nonces = {(await gateway.read_next("pong")).pong.nonce for _ in range(20)}
        assert nonces == set(range(20))
        assert worker.engine.load


async def test_a_peers_ticket_is_good_from_its_introduction_to_its_end() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.send(introduce=make_introduction())
        await gateway.submit(make_submit("a", ticket=make_ticket(id=b"a" * 16)))
        await worker.engine.until(lambda: worker.engine.orders)
        assert worker.engine.orders[worker.engine.id_of("a")].ticket
        part = worker_pb2.Part(worker_id="worker-0", incarnation="abc")
        await gateway.send(part=part)
        await gateway.submit(make_submit("b", ticket=make_ticket(id=b"b" * 16)))
        refused = (await gateway.read_next("ticket_refused")).ticket_refused
        assert (refused.request_id, refused.code) == ("b", "ticket_foreign_worker")
        assert "worker-0/abc" in refused.message


async def test_peers_are_those_of_a_session() -> None:
    async with serve() as worker, worker.gateway("one") as one, worker.gateway("two") as two:
        await one.send(introduce=make_introduction())
        await worker.engine.until(lambda: worker.engine.introduced)
        await two.submit(make_submit("r", ticket=make_ticket()))
        refused = (await two.read_next("ticket_refused")).ticket_refused
        assert refused.code == "ticket_foreign_worker"


async def test_a_prefill_leg_with_a_bad_ticket_fails_by_its_cause() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.submit(make_prefill("p", ticket=make_ticket(OTHER_KEY)))
        failure = (await gateway.read_next("failure")).failure
        assert (failure.request_id, failure.code) == ("p", "ticket_forged")
        assert not worker.engine.orders


@pytest.mark.parametrize(
    ("introduction", "reason"),
    [
        (make_introduction(addresses=[]), "1 to 1024 addresses"),
        (make_introduction(addresses=[b""]), "1 to 4096 bytes"),
        (make_introduction("a\nb"), "a peer's name"),
        (
            worker_pb2.Introduce(worker_id="w", incarnation="i", transfer_addresses=[b"a"]),
            "no peer",
        ),
    ],
)
async def test_an_introduction_that_makes_no_sense_ends_the_session(
    introduction: worker_pb2.Introduce, reason: str
) -> None:
    async with serve() as worker, worker.gateway() as gateway:
        await gateway.send(introduce=introduction)
        status, details = await gateway.end()
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert reason in details


async def test_a_gateway_may_ask_which_blocks_are_held() -> None:
    async with serve() as worker, worker.gateway() as gateway:
        worker.engine.held = {3, 1 << 63}
        await gateway.send(list_blocks=worker_pb2.ListBlocks(nonce=5))
        answer = (await gateway.read_next("held_blocks")).held_blocks
        assert answer.nonce == 5
        assert unpack(answer.keys).tolist() == [3, 1 << 63]
