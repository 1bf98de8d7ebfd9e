from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from fleet.backoff import Backoff
from fleet.member import Member, Role
from fleet.watch import MembershipWatch
from gateway.background import beside
from gateway.errors import RequestError, ShuttingDown, TimedOut, WorkerFailed, WorkerRefused
from gateway.exchange import Exchange
from gateway.fleet_client import FleetClient, error_of
from gateway.request import Request
from gateway.request_book import RequestBook
from gateway.request_life import Dispatch, Handoff, Outcome
from gateway.roster import Roster
from gateway.session import SessionLimits
from gateway.worker_link import Check, WorkerLink
from proto import worker_pb2
from proto.greeting import Greeting
from tests.gateway.builders import PATIENCE_SECONDS, TICKETS, TIMEOUTS, make_dispatcher
from tests.gateway.served_gateway import ListedMembers
from tests.gateway.stand_in_worker import Fabric, Job, PlainWire, StandInWorker, serving
from tests.proto.builders import KEY

WIRE = PlainWire()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A fleet client over one prefill and one decode worker."""

    def __init__(self, dispatch: Dispatch) -> None:
        fabric = Fabric()
        self.prefill = StandInWorker("prefill-0", Role.PREFILL, WIRE, fabric)
        self.decode = StandInWorker("decode-0", Role.DECODE, WIRE, fabric)
        self.clock = Clock()
        self.members = ListedMembers()
        watch = MembershipWatch(self.members, poll_seconds=0.005)
        self.roster = Roster(watch.changes(), self._link, "0.32.0")
        self.book = RequestBook(make_dispatcher(self.roster.table), TICKETS, TIMEOUTS, dispatch)
        self.client = FleetClient(self.book, self.roster, WIRE.decode, self.clock)
        self.failures: list[tuple[str, RequestError]] = []
        self.client.on_failure = lambda name, error: self.failures.append((name, error))

    def _link(self, member: Member, check: Check, on_change: Callable[[], None]) -> WorkerLink:
        greeting = Greeting("g", "0.32.0", KEY)
        backoff = Backoff(first_seconds=0.005, last_seconds=0.01)
        return WorkerLink(
            member, greeting, check, on_change, self.client, 1.0, SessionLimits(), backoff
        )

    def submit(self, request_id: str, max_tokens: int = 3) -> Exchange:
        exchange = Exchange(request_id)
        frames = WIRE.request(Job((1, 2), max_tokens))
        self.client.submit(Request(request_id, 2, True, frames, b"x" * 32, exchange))
        return exchange

    async def outputs(self, num: int) -> list[tuple[str, str | None]]:
        """(request id, finish reason) of the next ones."""
        found: list[tuple[str, str | None]] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found) < num:
                step = await self.client.next_step()
                found += [(o.request_id, o.finish_reason) for o in step.outputs]  # type: ignore[misc]
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@asynccontextmanager
async def served(dispatch: Dispatch = Dispatch.TOGETHER) -> AsyncIterator[Served]:
    """Afterwards nothing may be open anywhere."""
    served = Served(dispatch)
    async with serving(served.prefill, served.decode):
        served.members.listed = [served.prefill.member, served.decode.member]
        async with beside(served.roster.run(), served.client.run()):
            await served.roster.wait_for(1, 1, PATIENCE_SECONDS)
            yield served
            for worker in (served.prefill, served.decode):
                await worker.until(lambda worker=worker: not worker.open_legs)
            assert not served.book.lives
            served.book.check_integrity()


async def test_only_decode_outputs_come_out() -> None:
    async with served() as fleet:
        fleet.submit("r")
        assert await fleet.outputs(3) == [("r", None), ("r", None), ("r", "length")]
        assert len(fleet.prefill.submitted) == 1
        assert repr(fleet.client) == (
            "<FleetClient <RequestBook 0 open, <WorkerLedger no open legs>>, 0 steps queued>"
        )


async def test_siblings_follow_over_the_wire() -> None:
    async with served() as fleet:
        for name in ("0_r", "1_r", "2_r"):
            fleet.submit(name, max_tokens=1)
        assert sorted(await fleet.outputs(3)) == [(f"{i}_r", "length") for i in range(3)]
        assert len(fleet.prefill.submitted) == 1


async def test_an_abort_frees_the_workers() -> None:
    async with served() as fleet:
        fleet.prefill.behaviour.prefill_may_end.clear()
        fleet.submit("r")
        await fleet.prefill.until(lambda: fleet.prefill.open_legs)
        fleet.client.abort(["r"])
        await fleet.decode.until(lambda: fleet.decode.aborted == ["r"])
        await fleet.prefill.until(lambda: fleet.prefill.aborted == ["prefill:r"])
        assert not fleet.failures


async def test_a_late_prefill_is_revoked_and_the_answer_comes() -> None:
    async with served() as fleet:
        fleet.prefill.behaviour.prefill_may_end.clear()
        fleet.submit("r")
        await fleet.prefill.until(lambda: fleet.prefill.open_legs)
        fleet.clock.now = TIMEOUTS.prefill
        assert len(await fleet.outputs(3)) == 3
        assert fleet.decode.revoked
        assert fleet.prefill.aborted == ["prefill:r"]


async def test_a_late_first_token_is_a_failure() -> None:
    async with served() as fleet:
        fleet.decode.behaviour.decode_may_go_on.clear()
        exchange = fleet.submit("r")
        await fleet.decode.until(lambda: fleet.decode.open_legs)
        fleet.clock.now = TIMEOUTS.first_token
        await fleet.until(lambda: fleet.failures)
        ((name, error),) = fleet.failures
        assert name == "r"
        assert isinstance(error, TimedOut)
        assert exchange.error is error


async def test_a_gap_between_tokens_is_a_failure() -> None:
    async with served() as fleet:
        fleet.decode.hold_after(2)
        fleet.submit("r", max_tokens=9)
        await fleet.outputs(2)
        fleet.clock.now = TIMEOUTS.between_tokens
        await fleet.until(lambda: fleet.failures)
        assert "further token" in str(fleet.failures[0][1])


async def test_an_output_puts_the_deadline_off() -> None:
    async with served() as fleet:
        fleet.decode.hold_after(1)
        fleet.submit("r", max_tokens=3)
        await fleet.outputs(1)
        fleet.clock.now = TIMEOUTS.between_tokens - 1
        fleet.decode.behaviour.decode_may_go_on.set()
        await fleet.outputs(1)
        assert not fleet.failures
        await fleet.outputs(1)


async def test_who_is_told_of_a_failure_may_abort_amid_it() -> None:
    async with served() as fleet:
        fleet.decode.behaviour.decode_may_go_on.clear()
        names = ["0_r", "1_r", "2_r"]

        def abort_the_rest(name: str, error: RequestError) -> None:
            fleet.failures.append((name, error))
            fleet.client.abort(names)

        fleet.client.on_failure = abort_the_rest
        for name in names:
            fleet.submit(name)
        await fleet.decode.until(lambda: fleet.decode.open_legs)
        fleet.clock.now = TIMEOUTS.first_token
        await fleet.until(lambda: not fleet.book.lives)
        await fleet.decode.until(lambda: not fleet.decode.open_legs)
        assert fleet.failures[0][0] == "0_r"
        submitted = {submit.request_id for submit in fleet.decode.submitted}
        assert submitted <= set(fleet.decode.aborted)


async def test_a_drain_waits_and_then_fails_the_rest() -> None:
    async with served() as fleet:
        fleet.submit("a")
        await fleet.outputs(3)
        await fleet.client.drain(PATIENCE_SECONDS)
        fleet.decode.behaviour.decode_may_go_on.clear()
        fleet.submit("b")
        await fleet.client.drain(0.01)
        assert isinstance(fleet.failures[0][1], ShuttingDown)


async def test_a_front_half_that_does_not_read_slows_the_workers_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.fleet_client.MAX_STEPS_QUEUED", 2)
    async with served() as fleet:
        fleet.submit("r", max_tokens=20)
        await fleet.until(lambda: "2 steps queued" in repr(fleet.client))
        await fleet.prefill.until(lambda: not fleet.prefill.open_legs)
        assert "2 steps queued" in repr(fleet.client)
        assert len(await fleet.outputs(20)) == 20


async def test_stop_strings_count_as_finished() -> None:
    async with served() as fleet:
        outcomes: list[Outcome | None] = []
        fleet.book.on_end = lambda life: outcomes.append(life.outcome)
        fleet.decode.hold_after(1)
        fleet.submit("r")
        await fleet.outputs(1)
        fleet.client.abort(["r"], Outcome.FINISHED)
        assert outcomes == [Outcome.FINISHED]


async def test_a_refused_ticket_ends_the_prefill_leg_at_once_and_the_answer_comes() -> None:
    async with served() as fleet:
        fleet.decode.behaviour.refuse_tickets_with = "ticket_used"
        fleet.prefill.behaviour.prefill_may_end.clear()
        lives: list[Handoff | None] = []
        fleet.book.on_end = lambda life: lives.append(life.handoff)
        fleet.submit("r")
        assert len(await fleet.outputs(3)) == 3
        await fleet.prefill.until(lambda: fleet.prefill.aborted == ["prefill:r"])
        assert fleet.prefill.revoked == [fleet.prefill.submitted[0].ticket.id]
        assert lives == [Handoff.REFUSED]


async def test_prefill_first_decode_is_submitted_after_prefill_with_what_it_said() -> None:
    async with served(Dispatch.PREFILL_FIRST) as fleet:
        fleet.prefill.behaviour.prefill_may_end.clear()
        fleet.prefill.behaviour.says = {"remote_port": 7}
        fleet.submit("r")
        await fleet.prefill.until(lambda: fleet.prefill.open_legs)
        assert not fleet.decode.submitted
        fleet.prefill.behaviour.prefill_may_end.set()
        assert len(await fleet.outputs(3)) == 3
        (submit,) = fleet.decode.submitted
        assert msgspec.msgpack.decode(submit.transfer_params) == {"remote_port": 7}
        assert submit.ticket.id == fleet.prefill.submitted[0].ticket.id


async def test_prefill_first_a_failed_prefill_is_computed_by_decode() -> None:
    async with served(Dispatch.PREFILL_FIRST) as fleet:
        fleet.prefill.behaviour.refuse_with = "draining"
        fleet.submit("r")
        assert len(await fleet.outputs(3)) == 3
        assert not fleet.decode.submitted[0].HasField("ticket")


async def test_a_busy_worker_without_a_substitute_is_a_failure() -> None:
    async with served() as fleet:
        fleet.decode.behaviour.refuse_with = "overloaded"
        fleet.decode.behaviour.refusal_is_retryable = True
        fleet.submit("r")
        await fleet.until(lambda: fleet.failures)
        assert len(fleet.decode.submitted) == 1


def test_what_a_refusal_means() -> None:
    bad = error_of("d/1", worker_pb2.Failure(code="bad_request", message="no room"))
    assert isinstance(bad, WorkerRefused)
    assert bad.status == 400
    busy = error_of("d/1", worker_pb2.Failure(code="overloaded", retryable=True))
    assert isinstance(busy, WorkerFailed)
    assert (busy.status, busy.is_retryable, bad.is_retryable) == (503, True, False)
    assert "overloaded" in str(busy)
