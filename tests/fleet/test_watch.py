from __future__ import annotations

import asyncio
import logging

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from fleet.backoff import Backoff
from fleet.redis_membership import RedisMembership
from fleet.watch import MembershipWatch
from tests.fleet.builders import PATIENCE_SECONDS, eventually, make_member


def make_watch(membership: RedisMembership, backoff: Backoff | None = None) -> MembershipWatch:
    return MembershipWatch(membership, 0.005, grace_seconds=60, backoff=backoff)


async def test_changes_tell_who_came_and_who_went(membership: RedisMembership) -> None:
    decode, prefill = make_member("decode-0"), make_member("prefill-0")
    await membership.join(decode, 60)
    watch = make_watch(membership)
    changes = watch.changes()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await anext(changes)).joined == (decode,)
        await membership.join(prefill, 60)
        assert (await anext(changes)).joined == (prefill,)
        await membership.leave(decode)
        assert (await anext(changes)).left == (decode,)
    assert watch.members == (prefill,)
    await changes.aclose()


async def test_an_outage_is_said_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    member, newcomer = make_member("a"), make_member("b")
    backoff = Backoff(first_seconds=0.005, last_seconds=0.01)

    async def has_tried_often() -> bool:
        return backoff.failures >= 3

    async with RedisMembership(FakeAsyncRedis(server=server), "f") as membership:
        await membership.join(member, 60)
        watch = make_watch(membership, backoff)
        changes = watch.changes()
        await anext(changes)
        with caplog.at_level(logging.WARNING):
            server.connected = False
            following = asyncio.ensure_future(anext(changes))
            await eventually(has_tried_often)
            assert (watch.members, watch.is_current) == ((member,), False)
            server.connected = True
            await membership.join(newcomer, 60)
            change = await asyncio.wait_for(following, PATIENCE_SECONDS)
        await changes.aclose()
    assert (change.joined, change.left) == ((newcomer,), ())
    assert watch.is_current
    assert caplog.text.count("going on with") == 1
    assert caplog.text.count("is back") == 1
