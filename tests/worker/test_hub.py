from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvtransfer.stats import Transfers
from proto import worker_pb2
from tests.worker.builders import TICKET_ID, make_hub, make_submit, make_ticket
from tests.worker.scripted_engine import ScriptedEngine, ScriptedStep
from worker import hub as hub_module
from worker.errors import BadRequest, EngineLost, GatewayRefused, Overloaded
from worker.hub import Hub, Link
from worker.leg import Leg, Role
from worker.load import Load


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[None]:
    task = asyncio.ensure_future(hub.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def drain(link: Link) -> list[worker_pb2.FromWorker]:
    """What waits for the gateway. The link takes nothing more."""
    link.outbox.finish()
    messages = []
    while message := await link.outbox.get():
        messages.append(message)
    return messages


def kinds(messages: list[worker_pb2.FromWorker]) -> list[str | None]:
    return [message.WhichOneof("message") for message in messages]


def loads(messages: list[worker_pb2.FromWorker]) -> list[worker_pb2.LoadReport]:
    return [message.load for message in messages if message.HasField("load")]


async def test_a_step_is_one_message_to_each_gateway_with_its_own_outputs() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    one, two = hub.open("one"), hub.open("two")
    for link, name in ((one, "a"), (one, "b"), (two, "c")):
        await hub.submit(link, make_submit(name))
    a, b, c = map(engine.id_of, "abc")
    hub.deliver(ScriptedStep((a, b, c), frozenset({b})))
    hub.deliver(ScriptedStep((a, b)))
    steps = [m.step for m in await drain(one) if m.HasField("step")]
    assert [list(step.outputs) for step in steps] == [[b"a", b"b"], [b"a"]]
    assert [list(m.step.outputs) for m in await drain(two) if m.HasField("step")] == [[b"c"]]
    hub.check_integrity()


async def test_a_step_without_outputs_is_no_message() -> None:
    hub, _ = make_hub(ScriptedEngine())
    link = hub.open("one")
    hub.deliver(ScriptedStep())
    assert kinds(await drain(link)) == ["load"]  # the one that each session starts with


async def test_a_refused_request_leaves_nothing_open() -> None:
    hub, ledger = make_hub(ScriptedEngine())
    link = hub.open("one")
    with pytest.raises(BadRequest):
        await hub.submit(link, make_submit(frames=[b"bad"]))
    assert ledger.num_open(Role.DECODE) == 0
    hub.check_integrity()


async def test_the_room_of_a_finished_request_is_free_again() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine, [Leg(Role.DECODE, max_open_requests=1)])
    link = hub.open("one")
    await hub.submit(link, make_submit("a"))
    with pytest.raises(Overloaded):
        await hub.submit(link, make_submit("b"))
    last = engine.id_of("a")
    hub.deliver(ScriptedStep((last,), frozenset({last})))
    await hub.submit(link, make_submit("b"))


async def test_what_is_aborted_or_orphaned_is_aborted_in_the_engine() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    one, two = hub.open("one"), hub.open("two")
    for link, name in ((one, "a"), (one, "b"), (two, "c")):
        await hub.submit(link, make_submit(name))
    a, b, c = map(engine.id_of, "abc")
    async with running(hub):
        hub.abort(one, ["a", "never submitted", "c"])
        await engine.until(lambda: engine.aborted == [a])
        hub.close(one)
        hub.close(one)
        await engine.until(lambda: engine.aborted == [a, b])
        hub.deliver(ScriptedStep((a, b, c)))
        assert [list(m.step.outputs) for m in await drain(two) if m.HasField("step")] == [[b"c"]]
    hub.check_integrity()


async def test_stopping_aborts_everything_and_tells_its_gateways() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    link = hub.open("one")
    await hub.submit(link, make_submit("a"))
    async with running(hub):
        hub.stop()
        await engine.until(lambda: engine.aborted == [engine.id_of("a")])
    failures = [m.failure for m in await drain(link) if m.HasField("failure")]
    assert [(f.request_id, f.code, f.retryable) for f in failures] == [("a", "stopping", True)]
    hub.check_integrity()


async def test_an_output_that_fits_into_no_message_fails_its_requests_only() -> None:
    engine = ScriptedEngine()
    hub, ledger = make_hub(engine)
    one, two = hub.open("one"), hub.open("two")
    await hub.submit(one, make_submit("a"))
    await hub.submit(two, make_submit("b"))
    async with running(hub):
        size = hub_module.MAX_STEP_BYTES + 1
        hub.deliver(ScriptedStep((engine.id_of("a"),), num_bytes=size))
        await engine.until(lambda: engine.aborted == [engine.id_of("a")])
    (message,) = (m for m in await drain(one) if m.HasField("failure"))
    assert (message.failure.request_id, message.failure.code) == ("a", "output_too_large")
    assert ledger.num_open(Role.DECODE) == 1
    hub.check_integrity()


async def test_a_changed_load_is_told_at_once_and_then_at_most_every_so_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "NEWS_SECONDS", 0.01)
    hub, _ = make_hub(ScriptedEngine())
    link = hub.open("one")
    async with asyncio.timeout(5):
        assert (await link.outbox.get()) == worker_pb2.FromWorker(load=Load().to_proto())
        for num_running in (1, 2, 3):
            hub.deliver(ScriptedStep(load=Load(num_running=num_running)))
        told = [await link.outbox.get(), await link.outbox.get()]
    # The second came after the pause; nothing of what was between.
    assert [message.load.num_running for message in told if message] == [1, 3]
    hub.deliver(ScriptedStep(load=Load(num_running=3)))
    assert await drain(link) == []


async def test_a_fresh_report_is_told_to_the_others_too() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    other = hub.open("other")
    engine.load = Load(num_running=2, transfers=Transfers(open_sends=1))
    report = await hub.report()
    assert (report.num_running, report.transfers.open_sends) == (2, 1)
    assert loads(await drain(other)) == [report]


async def test_a_revoke_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    await hub.revoke(worker_pb2.Revoke(ticket_id=TICKET_ID, reason="prefill worker lost"))
    assert engine.revoked == [(TICKET_ID, "prefill worker lost")]


async def test_a_dead_engine_ends_the_hub() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    engine.die()
    with pytest.raises(EngineLost, match="OutOfMemory"):
        await hub.run()


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_SESSIONS", 1)
    hub, _ = make_hub(ScriptedEngine())
    hub.open("one")
    with pytest.raises(GatewayRefused):
        hub.open("two")
    assert repr(hub) == "<Hub: 1 sessions, <Ledger: 0 prefill, 0 decode, 0 sessions>>"


async def test_both_legs_of_one_request_may_run_here() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    link = hub.open("one")
    ticket = make_ticket()
    await hub.submit(link, make_submit("r", ticket=ticket))
    await hub.submit(link, make_submit("p:r", leg=worker_pb2.ROLE_PREFILL, ticket=ticket))
    assert len(set(engine.orders)) == 2
    prefill = next(each for each in engine.orders if each.startswith("prefill"))
    hub.deliver(ScriptedStep((prefill,), frozenset({prefill})))
    assert [list(m.step.outputs) for m in await drain(link) if m.HasField("step")] == [[b"p:r"]]
