"""Which legs are open on which worker, and what they weigh."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.routing.booked import NOTHING, Booked


@dataclass(frozen=True, slots=True)
class Booking:
    """One open leg. `prefill_tokens` are still to be computed there, and were predicted to take
    `prefill_seconds`; `kv_tokens` of its cache are promised to the leg; `is_starting`: it has
    brought no token yet; `is_long`: its prompt takes more than one step.
    """

    worker: str
    leg_id: str
    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    kv_tokens: int = 0
    is_starting: bool = False
    is_long: bool = False


@dataclass(slots=True)
class WorkerLedger:
    """A worker without open legs takes no space."""

    _legs: dict[str, dict[str, Booking]] = field(default_factory=dict)
    _booked: dict[str, Booked] = field(default_factory=dict)

    def open(self, booking: Booking) -> None:
        legs = self._legs.setdefault(booking.worker, {})
        if booking.leg_id in legs:
            raise ValueError(f"leg {booking.leg_id} is open on {booking.worker} already")
        legs[booking.leg_id] = booking
        self._booked[booking.worker] = added(self.booked(booking.worker), booking, 1)

    def close(self, booking: Booking) -> None:
        legs = self._legs[booking.worker]
        booking = legs.pop(booking.leg_id)
        if legs:
            self._booked[booking.worker] = added(self._booked[booking.worker], booking, -1)
        else:
            del self._legs[booking.worker], self._booked[booking.worker]

    def move(self, before: Iterable[Booking], after: Iterable[Booking]) -> set[str]:
        """One request's open legs were `before` and are `after`. The workers that this concerns."""
        closed, opened = set(before) - set(after), set(after) - set(before)
        for booking in closed:
            self.close(booking)
        for booking in opened:
            self.open(booking)
        return {booking.worker for booking in closed | opened}

    def legs(self, worker: str) -> tuple[str, ...]:
        return tuple(self._legs.get(worker, ()))

    def booked(self, worker: str) -> Booked:
        """All its open legs together."""
        return self._booked.get(worker, NOTHING)

    @property
    def workers(self) -> tuple[str, ...]:
        return tuple(self._legs)

    def check_integrity(self) -> None:
        """Raises AssertionError if the sums do not match."""
        assert self._legs.keys() == self._booked.keys(), self
        for worker, legs in self._legs.items():
            booked = self._booked[worker]
            assert booked.num_legs == len(legs) > 0, self
            assert booked.kv_tokens == sum(each.kv_tokens for each in legs.values()), self
            tokens = sum(each.prefill_tokens for each in legs.values())
            assert booked.prefill_tokens == tokens, self

    def __repr__(self) -> str:
        counts = ", ".join(f"{worker}: {len(legs)}" for worker, legs in self._legs.items())
        return f"<WorkerLedger {counts or 'no open legs'}>"


def added(booked: Booked, booking: Booking, sign: int) -> Booked:
    return Booked(
        booked.num_legs + sign,
        booked.num_starting + sign * booking.is_starting,
        booked.num_prefills + sign * bool(booking.prefill_tokens),
        booked.prefill_tokens + sign * booking.prefill_tokens,
        max(0.0, booked.prefill_seconds + sign * booking.prefill_seconds),
        booked.kv_tokens + sign * booking.kv_tokens,
        booked.num_long + sign * booking.is_long,
        booked.short_tokens + sign * (0 if booking.is_long else booking.prefill_tokens),
    )
