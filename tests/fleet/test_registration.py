from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from fleet import registration
from fleet.backoff import Backoff
from fleet.errors import FleetUnavailable
from fleet.member import Member
from fleet.member_load import MemberLoad
from fleet.redis_membership import RedisMembership
from fleet.registration import Registration
from tests.fleet.builders import PATIENCE_SECONDS, eventually, make_member
from tests.fleet.server import RunningServer

LEASE_SECONDS = 0.15


def make_registration(membership: RedisMembership, backoff: Backoff | None = None) -> Registration:
    return Registration(membership, make_member(), LEASE_SECONDS, backoff)


async def test_a_member_outlives_its_first_lease_and_leaves_at_the_end(
    membership: RedisMembership,
) -> None:
    marker = make_member("marker")
    registration = make_registration(membership)

    async def marker_is_gone() -> bool:
        return marker not in await membership.members()

    async with registration:
        await membership.join(marker, 2 * LEASE_SECONDS)
        await eventually(marker_is_gone)
        assert await membership.members() == (registration.member,)
    assert await membership.members() == ()


async def test_a_cancellation_that_is_lost_is_said_again(
    membership: RedisMembership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "CANCEL_SECONDS", 0.05)
    lost = 0
    renew = membership.renew

    async def deaf(*given: Any) -> None:
        nonlocal lost
        try:
            await asyncio.sleep(LEASE_SECONDS)
        except asyncio.CancelledError:
            lost += 1
            if lost > 1:
                raise
        await renew(*given)

    monkeypatch.setattr(membership, "renew", deaf)
    async with make_registration(membership):
        await asyncio.sleep(LEASE_SECONDS / 2)
    assert lost >= 1
    assert await membership.members() == ()


async def test_a_body_that_fails_leaves_too(membership: RedisMembership) -> None:
    with pytest.raises(KeyError):
        async with make_registration(membership):
            raise KeyError("engine")
    assert await membership.members() == ()


async def test_a_cancelled_body_leaves_too(membership: RedisMembership) -> None:
    inside = asyncio.Event()

    async def stay() -> None:
        async with make_registration(membership):
            inside.set()
            await asyncio.Event().wait()

    stayed = asyncio.create_task(stay())
    await inside.wait()
    stayed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stayed
    assert await membership.members() == ()


async def test_a_younger_incarnation_ends_the_stay(membership: RedisMembership) -> None:
    younger = make_member()
    async with make_registration(membership) as registration:
        await membership.join(younger, 60)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await registration.lost.wait()
    assert await membership.members() == (younger,)


async def test_a_load_that_changes_is_told_before_the_lease_wants_it(
    membership: RedisMembership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "LOAD_SECONDS", 0.01)
    readings = [MemberLoad(num_running=1)]

    async def tells_of_the_last() -> bool:
        return await membership.loads() == {"prefill-0": readings[-1]}

    async with Registration(membership, make_member(), 60.0, load=lambda: readings[-1]):
        await eventually(tells_of_the_last)
        readings.append(MemberLoad(num_running=2))
        await eventually(tells_of_the_last)
    assert await membership.loads() == {}


async def test_an_unchanged_load_costs_no_renewals() -> None:
    client = FakeAsyncRedis(server=FakeServer())
    calls: list[MemberLoad | None] = []

    class Counting(RedisMembership):
        async def renew(
            self, member: Member, lease_seconds: float, load: MemberLoad | None = None
        ) -> None:
            calls.append(load)

    async with Counting(client, "f") as membership:
        async with Registration(membership, make_member(), 0.3, load=MemberLoad):
            await asyncio.sleep(0.35)
        assert 2 <= len(calls) <= 4


async def test_a_first_join_without_a_server_fails() -> None:
    server = FakeServer()
    server.connected = False
    async with RedisMembership(FakeAsyncRedis(server=server), "f") as membership:
        with pytest.raises(FleetUnavailable):
            await make_registration(membership).__aenter__()


async def test_an_outage_is_said_once_and_outlived(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    membership = RedisMembership(FakeAsyncRedis(server=server), "f")
    onlooker = RedisMembership(FakeAsyncRedis(server=server), "f")

    async def is_registered() -> bool:
        return bool(await onlooker.members())

    async def has_tried_often() -> bool:
        return backoff.failures >= 3

    async def is_calm() -> bool:
        return backoff.failures == 0

    backoff = Backoff(first_seconds=0.005, last_seconds=0.01)
    async with membership, onlooker, make_registration(membership, backoff):
        with caplog.at_level(logging.WARNING):
            server.connected = False
            await eventually(has_tried_often)
            server.connected = True
            await FakeAsyncRedis(server=server).flushall()
            await eventually(is_registered)
            await eventually(is_calm)
    assert caplog.text.count("keeps trying") == 1
    assert caplog.text.count("is back") == 1


async def test_leaving_without_a_server_is_not_an_error() -> None:
    server = FakeServer()
    membership = RedisMembership(FakeAsyncRedis(server=server), "f")
    async with membership, make_registration(membership):
        server.connected = False


async def test_a_stay_can_be_ended_at_every_moment_of_a_renewal(
    valkey: RunningServer, fleet: str
) -> None:
    async with RedisMembership.connect(valkey.url, fleet) as membership:
        for moment in range(50):
            registration = Registration(membership, make_member(), lease_seconds=0.003)
            async with asyncio.timeout(PATIENCE_SECONDS), registration:
                await asyncio.sleep(moment * 0.0001)
    async with RedisMembership.connect(valkey.url, fleet) as membership:
        assert await membership.members() == ()
