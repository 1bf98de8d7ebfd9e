"""Every setting of `baton fleet`."""

from __future__ import annotations

from pydantic import Field

from baton.settings import StateSettings


class FleetSettings(StateSettings):
    """Which gateway is asked."""

    url: str | None = Field(
        default=None, description="the gateway to ask (default: that of the run in --state-dir)"
    )
