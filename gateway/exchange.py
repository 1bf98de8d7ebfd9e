"""One HTTP request and its answer, as the rest of the gateway may refer to it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from gateway.errors import RequestError


@dataclass(slots=True)
class Exchange:
    """`error` is why the fleet cannot answer: it takes the place of what else is sent."""

    request_id: str
    error: RequestError | None = None

    def fail(self, error: RequestError) -> None:
        """The first error stands."""
        if self.error is None:
            self.error = error


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)
