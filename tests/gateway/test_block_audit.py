from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from fleet.block_news import Batch, Removed, Snapshot, Stored, pack
from fleet.block_replica import BlockReplica
from fleet.block_table import BlockTable
from fleet.tier import BlockKeys, Tier
from gateway import block_audit
from gateway.block_audit import BlockAudit
from gateway.session import Call, SessionLimits, WorkerSession
from proto import worker_pb2
from tests.gateway.builders import PATIENCE_SECONDS

DEVICE = Tier.DEVICE


class Events:
    """Nothing else is said."""

    async def step(self, worker: str, frames: Sequence[bytes]) -> None: ...

    def leg_failed(self, worker: str, failure: worker_pb2.Failure) -> None: ...

    def ticket_refused(self, worker: str, refusal: worker_pb2.TicketRefused) -> None: ...

    def reported(self, worker: str, report: worker_pb2.LoadReport) -> None: ...


class Line:
    """A call to a worker that holds what `held` says, whenever it is asked; None: silence."""

    def __init__(self, held: Callable[[], Iterable[int] | None]) -> None:
        self._held = held
        self._answers: asyncio.Queue[worker_pb2.FromWorker] = asyncio.Queue()

    async def write(self, message: worker_pb2.ToWorker) -> None:
        if not message.HasField("list_blocks"):
            return
        held = self._held()
        if held is not None:
            nonce = message.list_blocks.nonce
            blocks = worker_pb2.HeldBlocks(nonce=nonce, keys=pack(held))
            self._answers.put_nowait(worker_pb2.FromWorker(held_blocks=blocks))

    async def read(self) -> worker_pb2.FromWorker:
        return await self._answers.get()


@asynccontextmanager
async def sessions(
    **workers: Callable[[], Iterable[int] | None],
) -> AsyncIterator[list[WorkerSession]]:
    limits = SessionLimits(ping_seconds=PATIENCE_SECONDS, pong_seconds=2 * PATIENCE_SECONDS)
    opened = [
        WorkerSession(name, cast("Call", Line(held)), Events(), limits)
        for name, held in workers.items()
    ]
    running = [asyncio.ensure_future(session.run()) for session in opened]
    try:
        yield opened
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def make_replica(**workers: Iterable[int]) -> BlockReplica:
    replica = BlockReplica()
    for name, held in workers.items():
        replica.meet(name)
        replica.learn(Snapshot(name, 1, {DEVICE: pack(held)}))
    return replica


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is compiled at its first use takes longer than these let anything take.
    BlockTable.warm_up()
    monkeypatch.setattr(block_audit, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(block_audit, "ANSWER_SECONDS", 0.05)


async def audit(
    replica: BlockReplica, **workers: Callable[[], Iterable[int] | None]
) -> dict[str, Any]:
    async with sessions(**workers) as opened:
        return await BlockAudit(replica, lambda: opened).run()


async def test_an_index_that_is_right() -> None:
    found = await audit(make_replica(a=[1, 2, 3], b=[2]), a=lambda: [3, 1, 2], b=lambda: [2])
    assert (found["num_held"], found["num_lacking"], found["num_wrong"]) == (4, 0, 0)
    assert (found["share_lacking"], found["share_wrong"]) == (0, 0)
    assert found["workers"].keys() == {"a", "b"}


async def test_what_is_lacking_and_what_is_wrong_are_counted_apart() -> None:
    found = await audit(make_replica(a=[1, 2, 9], b=[5]), a=lambda: [1, 2, 3, 4], b=lambda: [5])
    assert found["workers"]["a"] == {
        "num_held": 4,
        "num_lacking": 2,
        "num_wrong": 1,
        "share_lacking": 0.5,
        "share_wrong": pytest.approx(1 / 3),
    }
    assert found["workers"]["b"]["num_lacking"] == 0
    assert (found["num_held"], found["num_lacking"], found["num_wrong"]) == (5, 2, 1)
    assert found["share_wrong"] == 0.25


async def test_what_is_on_its_way_is_no_difference() -> None:
    replica = make_replica(a=[1, 2])
    news = iter(
        (
            lambda: None,
            lambda: replica.hear(
                Batch("a", 2, (Stored(DEVICE, pack([3])), Removed(DEVICE, pack([1]))))
            ),
        )
    )

    def held() -> list[int]:
        # By the second time, the index has been told.
        next(news)()
        return [2, 3]

    found = await audit(replica, a=held)
    assert (found["num_held"], found["num_lacking"], found["num_wrong"]) == (2, 0, 0)


async def test_what_comes_and_goes_while_it_is_asked_is_no_difference() -> None:
    answers = iter(([1, 2, 10], [1, 2, 11]))
    found = await audit(make_replica(a=[1, 2]), a=lambda: next(answers))
    assert (found["num_held"], found["num_lacking"]) == (3, 0)


async def test_an_expected_block_is_no_claim() -> None:
    replica = make_replica(a=[1])
    replica.learn(Snapshot("a", 2, {DEVICE: pack([1]), Tier.HOST: pack([7])}))
    found = await audit(replica, a=lambda: [1])
    assert found["num_wrong"] == 0


async def test_a_worker_that_does_not_answer_is_named_and_not_counted() -> None:
    found = await audit(make_replica(a=[1], b=[2]), a=lambda: [1], b=lambda: None)
    assert found["workers"]["b"] == {"reason": "it did not answer"}
    assert found["num_held"] == 1


async def test_a_worker_that_answers_once_is_not_counted() -> None:
    answers = iter(([1], None))
    found = await audit(make_replica(a=[1]), a=lambda: next(answers))
    assert found["workers"]["a"] == {"reason": "it did not answer"}


async def test_a_worker_that_the_index_does_not_know_lacks_all() -> None:
    found = await audit(make_replica(), a=lambda: [1, 2])
    assert found["share_lacking"] == 1


async def test_nobody_holds_nothing() -> None:
    found = await audit(make_replica())
    assert found == {
        "num_held": 0,
        "num_lacking": 0,
        "num_wrong": 0,
        "share_lacking": 0.0,
        "share_wrong": 0.0,
        "num_workers": 0,
        "num_asked": 0,
        "workers": {},
    }
    assert (await audit(make_replica(a=[]), a=list))["share_lacking"] == 0


async def test_of_many_workers_some_are_asked() -> None:
    names = [f"w{number}" for number in range(40)]
    found = await audit(make_replica(), **dict.fromkeys(names, lambda: [1]))
    assert (found["num_workers"], found["num_asked"], found["num_held"]) == (40, 16, 16)
    assert len(found["workers"]) == 16
    assert found["workers"].keys() < set(names)


class WatchedReplica(BlockReplica):
    num_looks = 0

    def held(self, worker: str, tier: Tier) -> BlockKeys:
        self.num_looks += 1
        return super().held(worker, tier)


async def test_answers_that_come_together_are_compared_with_turns_between() -> None:
    replica, names = WatchedReplica(), [f"w{number}" for number in range(8)]
    async with sessions(**dict.fromkeys(names, lambda: [1])) as opened:
        running = asyncio.ensure_future(BlockAudit(replica, lambda: opened).run())
        while not running.done():
            before = replica.num_looks
            await asyncio.sleep(0)
            assert replica.num_looks <= before + 1
    assert replica.num_looks == 16


async def test_who_comes_while_an_audit_is_under_way_gets_its_result() -> None:
    asked: list[str] = []

    def held() -> list[int]:
        asked.append("a")
        return [1]

    async with sessions(a=held) as opened:
        checks = BlockAudit(make_replica(a=[1]), lambda: opened)
        found = await asyncio.gather(*(checks.run() for _ in range(5)))
        assert all(each == found[0] for each in found)
        assert len(asked) == 2
        await checks.run()
    assert len(asked) == 4


async def test_who_waited_for_an_audit_that_is_given_up_makes_one() -> None:
    async with sessions(a=lambda: [1]) as opened:
        checks = BlockAudit(make_replica(a=[1]), lambda: opened)
        first, second, third = (asyncio.ensure_future(checks.run()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        third.cancel()
        await asyncio.wait([first, third])
        assert first.cancelled()
        assert third.cancelled()
        assert (await second)["num_held"] == 1
