"""The life of one request: which legs are open, and what to do when something happens.

    WAITING ── submit ──► SUBMITTED ── first token ──► STREAMING ── finish ──► ENDED
       └──────────────── abort, fail (from any stage) ──────────────────────────┘

With a ticket, a prefill leg runs beside the decode leg. When it ends badly or late before
the first token, the ticket is revoked and the decode worker computes the prompt itself.

Pure and synchronous: each method changes the state and returns what to do. `now` is in
seconds of any steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from gateway.actions import Abort, Action, Fail, Leg, Revoke, Submit
from gateway.errors import RequestError, TimedOut
from gateway.request import Request, prefill_leg_id
from gateway.timeouts import Timeouts
from proto.ticket import Ticket

NEVER = float("inf")


class Stage(Enum):
    WAITING = "waiting"
    SUBMITTED = "submitted"
    STREAMING = "streaming"
    ENDED = "ended"


class Outcome(StrEnum):
    FINISHED = "finished"
    ABORTED = "aborted"
    FAILED = "failed"


class Handoff(StrEnum):
    """How the prompt's KV came to be on the decode worker."""

    MOVED = "moved"  # from the prefill worker
    LOCAL = "local"  # computed there from the start
    REVOKED = "revoked"  # computed there after the prefill leg was lost
    FAILED = "failed"  # it did not: the request ended before


@dataclass(slots=True)
class RequestLife:
    """`decode_worker` and `prefill_worker` name the open legs' workers; None: not open."""

    request: Request
    timeouts: Timeouts
    arrived_at: float
    stage: Stage = Stage.WAITING
    decode_worker: str | None = None
    prefill_worker: str | None = None
    ticket: Ticket | None = None
    deadline: float = field(init=False)
    prefill_deadline: float = NEVER
    prefill_seconds: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float | None = None
    handoff: Handoff | None = None
    outcome: Outcome | None = None
    _source: str | None = None

    def __post_init__(self) -> None:
        self.deadline = self.arrived_at + self.timeouts.first_token

    @property
    def decode_leg_id(self) -> str:
        return self.request.request_id

    @property
    def prefill_leg_id(self) -> str:
        return prefill_leg_id(self.request.request_id)

    def open_legs(self) -> tuple[tuple[str, str], ...]:
        """(worker, leg id) of each."""
        legs = (
            (self.decode_worker, self.decode_leg_id),
            (self.prefill_worker, self.prefill_leg_id),
        )
        return tuple((worker, leg_id) for worker, leg_id in legs if worker is not None)

    def submit(
        self, now: float, decode: str, prefill: str | None = None, ticket: Ticket | None = None
    ) -> list[Action]:
        """Decode first, so that it has told the prefill worker where to push in time."""
        self.stage = Stage.SUBMITTED
        self.decode_worker, self.ticket = decode, ticket
        self.deadline = now + self.timeouts.first_token
        actions: list[Action] = [
            Submit(decode, Leg.DECODE, self.decode_leg_id, self.request, ticket)
        ]
        if prefill is not None:
            self.prefill_worker = self._source = prefill
            self.prefill_deadline = now + self.timeouts.prefill
            actions.append(Submit(prefill, Leg.PREFILL, self.prefill_leg_id, self.request, ticket))
        return actions

    def first_token(self, now: float) -> None:
        self.stage = Stage.STREAMING
        self.first_token_seconds = now - self.arrived_at
        self.deadline = now + self.timeouts.between_tokens
        if self.handoff is None:
            self.handoff = Handoff.MOVED if self.ticket else Handoff.LOCAL
        self.ticket = None

    def prefill_ended(self, now: float) -> None:
        """The prefill leg ended well: the KV is on its way or there."""
        self.prefill_seconds = now - self.arrived_at
        self._close_prefill()

    def prefill_failed(self, now: float, reason: str, is_reachable: bool = True) -> list[Action]:
        """`is_reachable`: the prefill worker can still be told to stop."""
        worker, ticket = self.prefill_worker, self.ticket
        self._close_prefill()
        actions: list[Action] = []
        if worker and is_reachable:
            actions.append(Abort(worker, self.prefill_leg_id))
        if ticket and self.decode_worker:
            actions.append(Revoke(self.decode_worker, ticket.id, reason))
            self.handoff, self.ticket = Handoff.REVOKED, None
            self.deadline = now + self.timeouts.first_token
        return actions

    def finish(self, now: float) -> list[Action]:
        """The decode leg ended well."""
        self.decode_worker = None
        return self._end(now, Outcome.FINISHED)

    def abort(self, now: float, outcome: Outcome = Outcome.ABORTED) -> list[Action]:
        """Nobody wants more of it: the client is gone, or has all it asked for."""
        return self._end(now, outcome)

    def fail(self, now: float, error: RequestError, lost_worker: str | None = None) -> list[Action]:
        """`lost_worker` is told nothing."""
        if self.handoff is None and self.ticket:
            self.handoff = Handoff.FAILED
        actions = self._end(now, Outcome.FAILED)
        told = [a for a in actions if isinstance(a, Fail) or a.worker != lost_worker]
        return [*told, Fail(self.request, error)]

    def overdue(self, now: float) -> list[Action]:
        """What to do about the deadlines that have passed."""
        if now >= self.deadline:
            return self.fail(now, self._timed_out())
        if now >= self.prefill_deadline:
            return self.prefill_failed(now, f"no prefill within {self.timeouts.prefill:g} s")
        return []

    def check_integrity(self) -> None:
        """Raises AssertionError if the state contradicts itself."""
        ended = self.stage is Stage.ENDED
        assert ended == (self.outcome is not None), self
        assert ended == (self.total_seconds is not None), self
        assert not (ended and self.open_legs()), self
        assert not (ended and self.ticket), self
        assert (self.stage in (Stage.SUBMITTED, Stage.STREAMING)) == bool(self.decode_worker), self
        assert (self.prefill_deadline < NEVER) == bool(self.prefill_worker), self
        assert not (self.stage is Stage.STREAMING and self.ticket), self

    def _timed_out(self) -> TimedOut:
        if self.stage is Stage.STREAMING:
            return TimedOut("further token", self.timeouts.between_tokens)
        return TimedOut("first token", self.timeouts.first_token)

    def _close_prefill(self) -> None:
        self.prefill_worker, self.prefill_deadline = None, NEVER

    def _end(self, now: float, outcome: Outcome) -> list[Action]:
        actions: list[Action] = [Abort(worker, leg_id) for worker, leg_id in self.open_legs()]
        if self.ticket and self._source:
            # The source may hold the KV for a decode leg that will never fetch it.
            actions.append(Revoke(self._source, self.ticket.id, f"request {outcome}"))
        self._close_prefill()
        self.decode_worker = self.ticket = None
        self.stage, self.outcome = Stage.ENDED, outcome
        self.total_seconds = now - self.arrived_at
        return actions

    def __repr__(self) -> str:
        legs = ", ".join(f"{leg_id} at {worker}" for worker, leg_id in self.open_legs())
        return f"<RequestLife {self.request.request_id} {self.stage.value}: {legs or 'no legs'}>"
