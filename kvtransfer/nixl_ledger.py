"""The tickets that one rank holds KV for, or waits for, while NIXL moves it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvtransfer.stats import Transfers


@dataclass(frozen=True, slots=True)
class NixlHold:
    """Of one request. `until`: when a holder may let go of what nobody has asked for."""

    ticket: bytes
    num_bytes: int
    is_load: bool
    since: float
    until: float


class NixlLedger:
    """Pure and synchronous; times are in seconds of any steady clock."""

    def __init__(self) -> None:
        self._open: dict[str, NixlHold] = {}
        self._revoked: set[str] = set()
        self._totals = Transfers()

    @property
    def revoked(self) -> frozenset[str]:
        """Requests whose KV is to be given up as soon as they have ended."""
        return frozenset(self._revoked)

    def open(self, request_id: str, hold: NixlHold) -> None:
        self._open[request_id] = hold

    def sent(self, request_ids: Iterable[str], cause: str = "") -> None:
        """Pulled, or given up for `cause`. What is not open is passed over."""
        for request_id in request_ids:
            if self._close(request_id):
                self._count("send", cause)

    def loaded(self, request_ids: Iterable[str], now: float, cause: str = "") -> None:
        """The KV is in place; with a `cause` it is not, and is recomputed."""
        for request_id in request_ids:
            if hold := self._close(request_id):
                self._count("load", cause, 0.0 if cause else now - hold.since)

    def received(self, num_bytes: int) -> None:
        received = self._totals.received_bytes + num_bytes
        self._totals = replace(self._totals, received_bytes=received)

    def revoke(self, ticket: bytes, now: float) -> bool:
        """False if there is nothing to give up.

        A load cannot be called off: NIXL writes where it was told to. And when the lease has
        ended, who asked in time may still be reading: NIXL knows, by heartbeats.
        """
        for request_id, hold in self._open.items():
            if hold.ticket == ticket and not hold.is_load and now < hold.until:
                self._revoked.add(request_id)
                return True
        return False

    def held_bytes(self) -> dict[bytes, int]:
        """By ticket."""
        return {hold.ticket: hold.num_bytes for hold in self._open.values()}

    def stats(self, num_links: int) -> Transfers:
        loads = [hold.num_bytes for hold in self._open.values() if hold.is_load]
        sends = [hold.num_bytes for hold in self._open.values() if not hold.is_load]
        return replace(
            self._totals,
            open_sends=len(sends),
            open_loads=len(loads),
            held_bytes=sum(sends),
            awaited_bytes=sum(loads),
            links=num_links,
        )

    def check_integrity(self) -> None:
        """Raises AssertionError if something is revoked that is not open."""
        assert self._revoked <= self._open.keys(), self

    def _close(self, request_id: str) -> NixlHold | None:
        self._revoked.discard(request_id)
        return self._open.pop(request_id, None)

    def _count(self, kind: str, cause: str, seconds: float = 0.0) -> None:
        totals = self._totals
        name = f"{kind}s_{'failed' if cause else 'completed'}"
        failures = dict(totals.failures)
        if cause:
            failures[f"{kind}_{cause}"] = failures.get(f"{kind}_{cause}", 0) + 1
        self._totals = replace(
            totals,
            failures=failures,
            load_seconds=totals.load_seconds + seconds,
            **{name: getattr(totals, name) + 1},
        )

    def __repr__(self) -> str:
        return f"<NixlLedger: {len(self._open)} open, {len(self._revoked)} revoked>"
