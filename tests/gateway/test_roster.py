from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from fleet.backoff import Backoff
from fleet.member import Member, Role
from fleet.watch import MembershipWatch
from gateway.background import beside
from gateway.errors import StartError
from gateway.roster import Roster
from gateway.session import SessionLimits
from gateway.worker_link import Check, LinkState, WorkerLink
from proto import worker_pb2
from proto.greeting import Greeting
from tests.gateway.builders import PATIENCE_SECONDS, make_dispatcher, make_request
from tests.gateway.served_gateway import ListedMembers
from tests.gateway.stand_in_worker import Fabric, Job, PlainWire, StandInWorker, serving
from tests.proto.builders import FLOAT_LAYOUT, KEY, LAYOUT, SMALLER_BLOCKS

GREETING = Greeting("g", "0.32.0", KEY)


class Losses:
    """Takes what links bring; remembers who was lost."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    async def step(self, worker: str, frames: Sequence[bytes]) -> None: ...

    def leg_failed(self, worker: str, failure: worker_pb2.Failure) -> None: ...

    def ticket_refused(self, worker: str, refusal: worker_pb2.TicketRefused) -> None: ...

    def reported(self, worker: str, report: worker_pb2.LoadReport) -> None: ...

    def worker_lost(self, worker: str) -> None:
        self.lost.append(worker)


def make_worker(name: str) -> StandInWorker:
    role = Role.PREFILL if name.startswith("prefill") else Role.DECODE
    return StandInWorker(name, role, PlainWire(), Fabric())


class Watched:
    """A roster at work, and what tests need to change around it."""

    def __init__(self, *workers: StandInWorker) -> None:
        self.events = Losses()
        self.members = ListedMembers(*(worker.member for worker in workers))
        watch = MembershipWatch(self.members, poll_seconds=0.005, grace_seconds=0.01)
        self.roster = Roster(watch.changes(), self._link, "0.32.0")

    def _link(self, member: Member, check: Check, on_change: Callable[[], None]) -> WorkerLink:
        backoff = Backoff(first_seconds=0.005, last_seconds=0.01)
        return WorkerLink(
            member, GREETING, check, on_change, self.events, 1.0, SessionLimits(), backoff
        )

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    def usable(self, role: Role) -> list[str]:
        """Their keys."""
        columns = self.roster.table.columns
        flags = columns.can_decode if role is Role.DECODE else columns.can_prefill
        return [key for key, row in self.roster.table.rows.items() if flags[row]]

    def state(self, worker: StandInWorker) -> LinkState | None:
        link = self.roster.links.get(worker.key)
        return link.state if link else None


@asynccontextmanager
async def watched(*workers: StandInWorker) -> AsyncIterator[Watched]:
    async with serving(*workers):
        watched = Watched(*workers)
        async with beside(watched.roster.run()):
            yield watched


async def test_who_is_listed_is_connected_and_usable() -> None:
    prefill, decode = make_worker("prefill-0"), make_worker("decode-0")
    async with watched(prefill, decode) as fleet:
        await fleet.roster.wait_for(1, 1, PATIENCE_SECONDS)
        assert fleet.usable(Role.PREFILL) == [prefill.key]
        assert fleet.usable(Role.DECODE) == [decode.key]
        table = fleet.roster.table
        facts = table.facts(table.rows[prefill.key])
        assert facts.transfer_addresses == (b"address of prefill-0",)
        assert fleet.roster.max_model_len == 512
        assert f"{decode.key} ready" in repr(fleet.roster)


async def test_who_does_not_come_is_named_in_the_error() -> None:
    prefill, gone = make_worker("prefill-0"), make_worker("decode-0")
    async with watched(prefill, gone) as fleet:
        await gone.stop()
        with pytest.raises(StartError, match=r"0 of 1 decode workers are ready \(decode-0/"):
            await fleet.roster.wait_for(1, 1, 0.3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            worker_pb2.Description(vllm_version="0.31.0"),
            "runs vLLM 0.31.0, but the gateway runs vLLM 0.32.0",
        ),
        (
            worker_pb2.Description(model_fingerprint="another"),
            "fingerprint another, but prefill-0 has the model with fingerprint fingerprint of t",
        ),
        (
            worker_pb2.Description(kv_layout=FLOAT_LAYOUT.to_proto()),
            f"do not fit: .* has {LAYOUT.summary}; the receiver has {FLOAT_LAYOUT.summary}",
        ),
    ],
)
async def test_at_the_start_a_mismatch_is_fatal_and_names_both_sides(
    change: worker_pb2.Description, expected: str
) -> None:
    prefill, decode = make_worker("prefill-0"), make_worker("decode-0")
    decode.description.MergeFrom(change)
    async with serving(decode), watched(prefill) as fleet:
        await fleet.roster.wait_for(1, 0, PATIENCE_SECONDS)
        await fleet.members.join(decode.member, 1)
        with pytest.raises(StartError, match=f"decode-0 .*{expected}"):
            await fleet.roster.wait_for(1, 1, PATIENCE_SECONDS)


async def test_later_a_misfit_is_refused_once_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decode, misfit = make_worker("decode-0"), make_worker("decode-1")
    misfit.description.model_fingerprint = "another"
    async with serving(misfit), watched(decode) as fleet:
        await fleet.roster.wait_for(0, 1, PATIENCE_SECONDS)
        with caplog.at_level(logging.WARNING):
            await fleet.members.join(misfit.member, 1)
            await fleet.until(lambda: fleet.state(misfit) is LinkState.REFUSED)
        assert len(caplog.records) == 1
        assert "another" in fleet.roster.links[misfit.key].reason
        assert fleet.state(decode) is LinkState.READY
        await fleet.members.leave(misfit.member)
        await fleet.until(lambda: fleet.state(misfit) is None)


async def test_a_lost_worker_is_reported_and_connected_again() -> None:
    decode = make_worker("decode-0")
    async with watched(decode) as fleet:
        await fleet.roster.wait_for(0, 1, PATIENCE_SECONDS)
        await decode.stop()
        await fleet.until(lambda: fleet.state(decode) is LinkState.LOST)
        assert fleet.events.lost == [decode.key]
        assert not fleet.usable(Role.DECODE)
        assert fleet.roster.session(decode.key) is None
        await decode.start()
        await fleet.until(lambda: fleet.state(decode) is LinkState.READY)


async def test_who_leaves_gets_nothing_new_but_is_not_cut_off() -> None:
    decode, other = make_worker("decode-0"), make_worker("decode-1")
    async with watched(decode, other) as fleet:
        await fleet.roster.wait_for(0, 2, PATIENCE_SECONDS)
        await fleet.members.leave(decode.member)
        await fleet.until(lambda: fleet.state(decode) is LinkState.LEAVING)
        assert fleet.roster.session(decode.key) is not None
        assert fleet.usable(Role.DECODE) == [other.key]
        await fleet.members.join(decode.member, 1)
        await fleet.until(lambda: fleet.state(decode) is LinkState.READY)
        await fleet.members.leave(decode.member)
        await fleet.until(lambda: fleet.state(decode) is LinkState.LEAVING)
        await decode.stop()
        await fleet.until(lambda: fleet.state(decode) is None)


async def test_a_restarted_worker_is_another_one() -> None:
    decode = make_worker("decode-0")
    async with watched(decode) as fleet:
        await fleet.roster.wait_for(0, 1, PATIENCE_SECONDS)
        old = decode.key
        await decode.restart()
        await fleet.members.join(decode.member, 1)
        await fleet.until(lambda: fleet.state(decode) is LinkState.READY)
        await fleet.until(lambda: list(fleet.roster.links) == [decode.key])
        assert fleet.events.lost == [old]


async def test_a_fault_in_one_link_does_not_end_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decode, other = make_worker("decode-0"), make_worker("decode-1")
    async with watched(decode, other) as fleet:
        await fleet.roster.wait_for(0, 2, PATIENCE_SECONDS)

        async def fail(worker: str, frames: Sequence[bytes]) -> None:
            raise ZeroDivisionError

        fleet.events.step = fail  # type: ignore[method-assign]
        session = fleet.roster.session(decode.key)
        assert session
        frames = PlainWire().request(Job((1,), 1))
        session.send(
            worker_pb2.ToWorker(
                submit=worker_pb2.Submit(request_id="r", leg=worker_pb2.ROLE_DECODE, request=frames)
            )
        )
        await fleet.until(lambda: fleet.events.lost == [decode.key])
        assert fleet.state(other) is LinkState.READY
        assert any("the link to decode-0" in record.message for record in caplog.records)


async def test_layouts_may_differ_where_kv_can_be_converted() -> None:
    prefill, decode = make_worker("prefill-0"), make_worker("decode-0")
    decode.description.kv_layout.CopyFrom(SMALLER_BLOCKS.to_proto())
    async with watched(prefill, decode) as fleet:
        await fleet.roster.wait_for(1, 1, PATIENCE_SECONDS)


async def test_a_layout_that_fits_one_counterpart_is_enough() -> None:
    prefill, other = make_worker("prefill-0"), make_worker("prefill-1")
    decode = make_worker("decode-0")
    for worker in (other, decode):
        worker.description.kv_layout.CopyFrom(FLOAT_LAYOUT.to_proto())
    async with watched(prefill, other) as fleet:
        await fleet.roster.wait_for(2, 0, PATIENCE_SECONDS)
        await decode.start()
        await fleet.members.join(decode.member, 1)
        await fleet.roster.wait_for(2, 1, PATIENCE_SECONDS)
        dispatcher = make_dispatcher(fleet.roster.table)
        assert dispatcher.add(make_request(), 0.0)
        ((_, placement),) = dispatcher.ready(0.0)
        assert placement.prefill is not None
        assert placement.prefill.key == other.key
        await decode.until(lambda: decode.peers == [other.key])
    await decode.stop()


async def test_a_layout_that_cannot_be_read_is_refused() -> None:
    decode = make_worker("decode-0")
    decode.description.kv_layout.encoded = "{"
    async with watched(decode) as fleet:
        with pytest.raises(StartError, match="decode-0 has a KV layout that cannot be read"):
            await fleet.roster.wait_for(0, 1, PATIENCE_SECONDS)


async def test_who_has_left_sets_no_standard() -> None:
    old, new = make_worker("decode-0"), make_worker("decode-1")
    new.description.model_fingerprint = "another"
    async with watched(old) as fleet:
        await fleet.roster.wait_for(0, 1, PATIENCE_SECONDS)
        await new.start()
        await fleet.members.leave(old.member)
        await fleet.until(lambda: fleet.state(old) is LinkState.LEAVING)
        await fleet.members.join(new.member, 1)
        await fleet.until(lambda: fleet.state(new) is LinkState.READY)
        # Its open requests go on, but it has lost its place.
        await fleet.members.join(old.member, 1)
        await fleet.until(lambda: fleet.state(old) is LinkState.REFUSED)
        assert fleet.usable(Role.DECODE) == [new.key]
    await new.stop()


async def test_decode_workers_are_told_of_prefill_workers_that_come_and_go() -> None:
    prefill, decode = make_worker("prefill-0"), make_worker("decode-0")
    other, late = make_worker("prefill-1"), make_worker("decode-1")
    async with serving(other, late), watched(decode, prefill) as fleet:
        await decode.until(lambda: decode.peers == [prefill.key])
        await fleet.members.join(other.member, 1)
        await decode.until(lambda: decode.peers == [prefill.key, other.key])
        await prefill.stop()
        await decode.until(lambda: decode.peers == [other.key])
        await fleet.members.join(late.member, 1)
        await late.until(lambda: late.peers == [other.key])
        await prefill.start()
        for worker in (decode, late):
            await worker.until(lambda worker=worker: set(worker.peers) == {prefill.key, other.key})
        assert prefill.peers == []


async def test_a_worker_that_leaves_stays_a_peer_while_its_session_lasts() -> None:
    prefill, decode = make_worker("prefill-0"), make_worker("decode-0")
    async with watched(prefill, decode) as fleet:
        await decode.until(lambda: decode.peers == [prefill.key])
        await fleet.members.leave(prefill.member)
        await fleet.until(lambda: fleet.state(prefill) is LinkState.LEAVING)
        assert decode.peers == [prefill.key]
        await prefill.stop()
        await decode.until(lambda: decode.peers == [])
