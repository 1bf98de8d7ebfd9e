"""Every setting of `baton status`."""

from __future__ import annotations

from pydantic import Field

from baton.settings import FleetName, RedisUrl, StateSettings


class StatusSettings(StateSettings):
    """What `baton status` shows."""

    redis: RedisUrl | None = Field(
        default=None,
        description="show the workers of a fleet on that server, wherever they run",
    )
    fleet: FleetName = Field(default="baton", description="the fleet's name, with --redis")
