from __future__ import annotations

import logging

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from fleet import connection
from fleet.errors import BadFleetUrl, FleetUnavailable
from fleet.redis_membership import RedisMembership
from tests.fleet.builders import eventually, make_member
from tests.fleet.server import RunningValkey


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    membership = RedisMembership.connect("redis://:secret@127.0.0.1:1/0", "f")
    async with membership:
        with pytest.raises(FleetUnavailable, match=r"redis://127\.0\.0\.1:1/0") as caught:
            await membership.members()
    assert "secret" not in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "redis://h:port"])
async def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(BadFleetUrl):
        RedisMembership.connect(url, "f")


@pytest.mark.parametrize("fleet", ["", "a b", "a:b", "-a"])
async def test_a_fleet_name_that_would_break_the_keys_is_refused(fleet: str) -> None:
    with pytest.raises(ValueError, match="fleet"):
        RedisMembership.connect("redis://localhost", fleet)


async def test_an_unreadable_record_is_skipped_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = FakeAsyncRedis(server=FakeServer())
    async with RedisMembership(client, "f") as membership:
        member = make_member()
        await membership.join(member, 60)
        await client.sadd("baton:1:f:workers", "prefill-9")
        await client.set("baton:1:f:worker:prefill-9", b'{"worker_id": 1}')
        with caplog.at_level(logging.WARNING):
            assert await membership.members() == (member,)
            assert await membership.members() == (member,)
    assert caplog.text.count("prefill-9") == 1


async def test_a_dead_fleet_leaves_no_key_behind(valkey: RunningValkey, fleet: str) -> None:
    async with RedisMembership.connect(valkey.url, fleet) as membership:
        await membership.join(make_member(), 0.05)
        client = membership._client

        async def no_key_is_left() -> bool:
            return not await client.keys(f"baton:1:{fleet}:*")

        await eventually(no_key_is_left)


async def test_a_restarted_server_is_found_again(own_valkey: RunningValkey) -> None:
    async with RedisMembership.connect(own_valkey.url, "f") as membership:
        member = make_member()
        await membership.join(member, 60)
        own_valkey.stop()
        with pytest.raises(FleetUnavailable):
            await membership.renew(member, 60)
        own_valkey.start()
        await membership.renew(member, 60)
        assert await membership.members() == (member,)


async def test_a_server_that_hangs_is_unavailable_after_a_while(
    own_valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.1)
    async with RedisMembership.connect(own_valkey.url, "f") as membership:
        await membership.members()
        own_valkey.freeze()
        with pytest.raises(FleetUnavailable, match="no answer in time"):
            await membership.members()
