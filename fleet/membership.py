"""The contract of fleet membership."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fleet.member import Member
from fleet.member_load import MemberLoad


class Membership(Protocol):
    """Who is in one fleet, under leases.

    A member is listed from `join` until `leave`, or until `lease_seconds` have passed
    without `renew`. One worker_id has one member: the one that joined last.

    Every method raises FleetUnavailable within a few seconds when the server does not
    answer; the call may or may not have taken effect, and all five can be repeated.
    """

    async def join(self, member: Member, lease_seconds: float) -> None:
        """List `member`, in the place of any older incarnation of its worker_id."""

    async def renew(
        self, member: Member, lease_seconds: float, load: MemberLoad | None = None
    ) -> None:
        """Start the lease anew; joins again if the lease had ended or the state was lost.

        `load` is how busy it is now; without it, what was last told stays. Raises Superseded,
        and changes nothing, if another incarnation holds the place.
        """

    async def leave(self, member: Member) -> None:
        """End this member's lease. Does nothing if it has ended or passed to another."""

    async def members(self) -> tuple[Member, ...]:
        """Everyone whose lease runs, by worker_id."""

    async def loads(self) -> Mapping[str, MemberLoad]:
        """By worker_id, what members have told with `renew` in the lease that runs."""
