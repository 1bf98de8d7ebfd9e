from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvtransfer.stats import Transfers
from proto import worker_pb2
from tests.proto.builders import OTHER_KEY, TICKET_ID, make_ticket
from tests.worker.builders import make_hub, make_introduction, make_prefill, make_submit
from tests.worker.scripted_engine import ScriptedEngine, ScriptedStep
from worker import hub as hub_module
from worker import load_teller, ticket_keeper
from worker.errors import BadRequest, EngineLost, ForeignPrompt, GatewayRefused, Overloaded
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
    monkeypatch.setattr(load_teller, "NEWS_SECONDS", 0.01)
    hub, _ = make_hub(ScriptedEngine())
    link = hub.open("one")
    async with asyncio.timeout(5):
        first = await link.outbox.get()
        assert first is not None
        assert first.load.num_running == 0
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


async def test_an_engine_that_can_move_no_kv_any_more_ends_the_hub() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    engine.step(load=Load(transfers=Transfers(failed_threads=1)))
    with pytest.raises(EngineLost, match="transfer thread"):
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
    hub.peers.introduce(link.number, make_introduction())
    ticket = make_ticket()
    await hub.submit(link, make_submit("r", ticket=ticket))
    await hub.submit(link, make_prefill("p:r", ticket=ticket))
    assert [order.ticket for order in engine.orders.values()] == [ticket, ticket]
    prefill = next(each for each in engine.orders if each.startswith("prefill"))
    hub.deliver(ScriptedStep((prefill,), frozenset({prefill})))
    assert [list(m.step.outputs) for m in await drain(link) if m.HasField("step")] == [[b"p:r"]]
    hub.check_integrity()


def refusals(messages: list[worker_pb2.FromWorker]) -> list[tuple[str, str]]:
    found = [m.ticket_refused for m in messages if m.HasField("ticket_refused")]
    return [(each.request_id, each.code) for each in found]


async def test_a_decode_leg_with_a_bad_ticket_runs_without_it_and_the_gateway_is_told() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    link = hub.open("one")
    await hub.submit(link, make_submit("r", ticket=make_ticket(OTHER_KEY)))
    assert engine.orders[engine.id_of("r")].ticket is None
    (report,) = loads(messages := await drain(link))
    assert refusals(messages) == [("r", "ticket_forged")]
    assert dict(report.tickets.refused) == {"forged": 1}


async def test_a_ticket_for_another_prompt_is_found_by_the_engine_and_refused_alike() -> None:
    engine = ScriptedEngine()
    hub, ledger = make_hub(engine)
    link = hub.open("one")
    hub.peers.introduce(link.number, make_introduction())
    frames = [b"another prompt"]
    await hub.submit(link, make_submit("r", ticket=make_ticket(), frames=frames))
    assert engine.orders[engine.id_of("r")].ticket is None
    prefill = make_submit("p", leg=worker_pb2.ROLE_PREFILL, ticket=make_ticket(), frames=frames)
    with pytest.raises(ForeignPrompt):
        await hub.submit(link, prefill)
    assert ledger.num_open(Role.PREFILL) == 0
    report = (await hub.report()).tickets
    assert (report.num_open, dict(report.refused)) == (0, {"foreign_prompt": 2})
    assert refusals(await drain(link)) == [("r", "ticket_foreign_prompt")]
    hub.check_integrity()


async def test_a_refused_request_gives_its_ticket_back() -> None:
    hub, _ = make_hub(ScriptedEngine())
    link = hub.open("one")
    hub.peers.introduce(link.number, make_introduction())
    with pytest.raises(BadRequest):
        await hub.submit(link, make_submit(ticket=make_ticket(), frames=[b"bad"]))
    assert (await hub.report()).tickets.num_open == 0


async def test_open_tickets_are_reported_with_what_they_hold_and_the_next_deadline() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    link = hub.open("one")
    hub.peers.introduce(link.number, make_introduction())
    await hub.submit(link, make_submit("r", ticket=make_ticket()))
    engine.load = Load(held={TICKET_ID: 4096, b"another's": 1})
    tickets = (await hub.report()).tickets
    assert (tickets.num_open, tickets.num_bytes) == (1, 4096)
    assert 0 < tickets.next_deadline_seconds <= 30.0
    hub.deliver(ScriptedStep((engine.id_of("r"),)))
    tickets = (await hub.report()).tickets
    assert (tickets.num_open, tickets.num_bytes, tickets.next_deadline_seconds) == (0, 0, 0)


async def test_a_prefill_legs_ticket_is_open_until_the_engine_holds_nothing_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ticket_keeper, "TICK_SECONDS", 0.001)
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    link = hub.open("one")
    engine.load = Load(held={TICKET_ID: 4096})
    async with running(hub):
        await hub.submit(link, make_prefill(ticket=make_ticket()))
        leg = engine.id_of("p")
        hub.deliver(ScriptedStep((leg,), frozenset({leg})))
        await engine.until(lambda: engine.num_reports > 1)
        assert (await hub.report()).tickets.num_open == 1
        engine.load = Load(held={})
        num_reports = engine.num_reports
        await engine.until(lambda: engine.num_reports > num_reports)
    assert (await hub.report()).tickets.num_open == 0


async def test_a_lease_ends_when_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticket_keeper, "TICK_SECONDS", 0.001)
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    link = hub.open("one")
    hub.peers.introduce(link.number, make_introduction())
    async with running(hub):
        ticket = make_ticket(lease_seconds=0.01)
        await hub.submit(link, make_submit(ticket=ticket))
        await engine.until(lambda: engine.revoked)
    assert engine.revoked == [(TICKET_ID, "the lease has ended")]
    assert (await hub.report()).tickets.num_open == 0


async def test_the_engine_learns_of_peers_once_whoever_introduces_them() -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    one, two = hub.open("one"), hub.open("two")
    part = worker_pb2.Part(worker_id="worker-0", incarnation="abc")
    async with running(hub):
        hub.peers.introduce(one.number, make_introduction())
        await engine.until(lambda: engine.introduced == [(b"there",)])
        hub.peers.introduce(two.number, make_introduction())
        hub.peers.introduce(two.number, make_introduction("other", addresses=[b"elsewhere"]))
        await engine.until(lambda: engine.introduced == [(b"there",), (b"elsewhere",)])
        hub.peers.part(one.number, part)
        hub.close(two)
        await engine.until(lambda: len(engine.parted) == 2)
    assert set(engine.parted) == {(b"there",), (b"elsewhere",)}
    hub.check_integrity()
