"""How long each stage of a request may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds.

    connect: until a worker has described itself or opened its session.
    prefill: from the hand-off until the prefill leg has ended; later, decode recomputes.
    first_token: from the submission, or the recompute, until the first token.
    between_tokens: from one token to the next.
    """

    connect: float = 5.0
    prefill: float = 120.0
    first_token: float = 300.0
    between_tokens: float = 60.0

    @property
    def ticket_lease(self) -> float:
        """Longer than a prefill may take, so that the gateway gives up first."""
        return self.prefill + self.connect
