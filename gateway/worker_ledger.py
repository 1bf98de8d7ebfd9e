"""Which legs are open on which worker, and how many prompt tokens they carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class WorkerLedger:
    """Leg ids by worker. A worker without open legs takes no space."""

    _legs: dict[str, dict[str, int]] = field(default_factory=dict)
    _tokens: dict[str, int] = field(default_factory=dict)

    def open(self, worker: str, leg_id: str, num_tokens: int) -> None:
        legs = self._legs.setdefault(worker, {})
        if leg_id in legs:
            raise ValueError(f"leg {leg_id} is open on {worker} already")
        legs[leg_id] = num_tokens
        self._tokens[worker] = self._tokens.get(worker, 0) + num_tokens

    def close(self, worker: str, leg_id: str) -> None:
        legs = self._legs[worker]
        self._tokens[worker] -= legs.pop(leg_id)
        if not legs:
            del self._legs[worker], self._tokens[worker]

    def move(
        self,
        before: Iterable[tuple[str, str]],
        after: Iterable[tuple[str, str]],
        num_tokens: int,
    ) -> None:
        """One request's open legs were `before` and are `after`, as (worker, leg id)."""
        for worker, leg_id in set(before) - set(after):
            self.close(worker, leg_id)
        for worker, leg_id in set(after) - set(before):
            self.open(worker, leg_id, num_tokens)

    def legs(self, worker: str) -> tuple[str, ...]:
        return tuple(self._legs.get(worker, ()))

    def num_legs(self, worker: str) -> int:
        return len(self._legs.get(worker, ()))

    def num_tokens(self, worker: str) -> int:
        return self._tokens.get(worker, 0)

    @property
    def workers(self) -> tuple[str, ...]:
        return tuple(self._legs)

    def check_integrity(self) -> None:
        """Raises AssertionError if the sums do not match."""
        assert self._legs.keys() == self._tokens.keys(), self
        for worker, legs in self._legs.items():
            assert legs and sum(legs.values()) == self._tokens[worker], self

    def __repr__(self) -> str:
        counts = ", ".join(f"{worker}: {len(legs)}" for worker, legs in self._legs.items())
        return f"<WorkerLedger {counts or 'no open legs'}>"
