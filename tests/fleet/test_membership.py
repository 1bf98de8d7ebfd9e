"""The contract of Membership, over every implementation."""

from __future__ import annotations

import pytest

from fleet.errors import Superseded
from fleet.member_load import MemberLoad
from fleet.redis_membership import RedisMembership
from tests.fleet.builders import eventually, make_member
from tests.fleet.server import RunningServer

LONG = 60.0
LOAD = MemberLoad(num_running=3, num_waiting=2, num_kv_blocks=100, num_kv_blocks_used=70)
SHORT = 0.05


async def test_an_empty_fleet_has_no_members(membership: RedisMembership) -> None:
    assert await membership.members() == ()


async def test_members_are_listed_as_they_joined(membership: RedisMembership) -> None:
    decode, prefill = make_member("decode-0"), make_member("prefill-0")
    await membership.join(prefill, LONG)
    await membership.join(decode, LONG)
    assert await membership.members() == (decode, prefill)


async def test_the_last_incarnation_to_join_takes_the_place(membership: RedisMembership) -> None:
    old, new = make_member(), make_member()
    await membership.join(old, LONG)
    await membership.join(new, LONG)
    assert await membership.members() == (new,)


async def test_a_replaced_incarnation_cannot_renew(membership: RedisMembership) -> None:
    old, new = make_member(), make_member()
    await membership.join(old, LONG)
    await membership.join(new, LONG)
    with pytest.raises(Superseded, match="prefill-0"):
        await membership.renew(old, LONG)
    assert await membership.members() == (new,)


async def test_a_replaced_incarnation_cannot_end_its_successors_lease(
    membership: RedisMembership,
) -> None:
    old, new = make_member(), make_member()
    await membership.join(old, LONG)
    await membership.join(new, LONG)
    await membership.leave(old)
    assert await membership.members() == (new,)


async def test_who_leaves_is_gone_and_may_leave_again(membership: RedisMembership) -> None:
    member = make_member()
    await membership.join(member, LONG)
    await membership.leave(member)
    await membership.leave(member)
    assert await membership.members() == ()


async def test_a_lease_that_is_not_renewed_ends(membership: RedisMembership) -> None:
    dead, alive = make_member("decode-0"), make_member("prefill-0")
    await membership.join(dead, SHORT)
    await membership.join(alive, LONG)

    async def only_the_living() -> bool:
        return await membership.members() == (alive,)

    await eventually(only_the_living)


async def test_renewing_prolongs_the_lease(membership: RedisMembership) -> None:
    renewed, other = make_member("decode-0"), make_member("prefill-0")
    await membership.join(renewed, SHORT)
    await membership.renew(renewed, LONG)
    await membership.join(other, SHORT)

    async def the_other_is_gone() -> bool:
        return other not in await membership.members()

    await eventually(the_other_is_gone)
    assert await membership.members() == (renewed,)


async def test_renewing_after_the_lease_ended_joins_again(membership: RedisMembership) -> None:
    member = make_member()
    await membership.renew(member, LONG)
    assert await membership.members() == (member,)


async def test_a_load_is_told_with_a_renewal_and_stays(membership: RedisMembership) -> None:
    busy, idle = make_member("decode-0"), make_member("prefill-0")
    await membership.join(busy, LONG)
    await membership.join(idle, LONG)
    assert await membership.loads() == {}
    await membership.renew(busy, LONG, LOAD)
    assert await membership.loads() == {"decode-0": LOAD}
    await membership.renew(busy, LONG)
    assert await membership.loads() == {"decode-0": LOAD}
    await membership.renew(busy, LONG, MemberLoad())
    assert await membership.loads() == {"decode-0": MemberLoad()}


async def test_a_load_ends_with_its_lease(membership: RedisMembership) -> None:
    dead, left = make_member("decode-0"), make_member("decode-1")
    await membership.renew(dead, SHORT, LOAD)
    await membership.renew(left, LONG, LOAD)
    await membership.leave(left)

    async def there_is_none() -> bool:
        return await membership.loads() == {}

    await eventually(there_is_none)


async def test_a_load_lives_as_long_as_a_lease_without_one(membership: RedisMembership) -> None:
    member, other = make_member("decode-0"), make_member("decode-1")
    await membership.renew(member, SHORT, LOAD)
    await membership.renew(member, LONG)
    await membership.renew(other, SHORT, LOAD)

    async def the_other_is_gone() -> bool:
        return "decode-1" not in await membership.loads()

    await eventually(the_other_is_gone)
    assert await membership.loads() == {"decode-0": LOAD}


async def test_a_load_is_not_the_successors(membership: RedisMembership) -> None:
    old, new = make_member(), make_member()
    await membership.renew(old, LONG, LOAD)
    await membership.join(new, LONG)
    with pytest.raises(Superseded):
        await membership.renew(old, LONG, LOAD)
    assert await membership.loads() == {}


@pytest.mark.parametrize("lease_seconds", [0.0, -1.0])
async def test_a_lease_must_last(membership: RedisMembership, lease_seconds: float) -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        await membership.join(make_member(), lease_seconds)


async def test_fleets_do_not_see_each_other(valkey: RunningServer, fleet: str) -> None:
    here = RedisMembership.connect(valkey.url, fleet)
    there = RedisMembership.connect(valkey.url, f"{fleet}-b")
    async with here, there:
        await here.join(make_member(), LONG)
        assert await there.members() == ()
