"""One HTTP request and its answer, as the rest of the gateway may refer to it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from gateway.errors import RequestError


@dataclass(slots=True)
class Exchange:
    """`error` is why the fleet cannot answer: it takes the place of what else is sent.

    `session`: its client's name for what belongs together, or empty; `wait_seconds`: how long
    the client waits for an answer, if it said so. `route`: which way it went, told to a client
    that `wants_route`.
    """

    request_id: str
    error: RequestError | None = None
    session: str = ""
    wait_seconds: float | None = None
    wants_route: bool = False
    route: str = ""

    def fail(self, error: RequestError) -> None:
        """The first error stands."""
        if self.error is None:
            self.error = error


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)
