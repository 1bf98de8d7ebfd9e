"""The life of one request: which legs are open, and what to do when something happens.

    WAITING ─── submit ───► SUBMITTED ── first token ──► STREAMING ── finish ──► ENDED
       └─ submit ─► PREFILLING ─┘                                                  │
       └──────────────── abort, fail (from any stage) ─────────────────────────────┘

With a ticket, a prefill leg runs beside the decode leg; PREFILLING, the decode leg waits
until it has ended. When it ends badly or late before the first token, or the decode worker
refuses the ticket, the decode worker computes the prompt itself.

Pure and synchronous: each method changes the state and returns what to do. `now` is in
seconds of any steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

from gateway.actions import Abort, Action, Fail, Leg, Reserve, Revoke, Submit
from gateway.errors import RequestError, TimedOut
from gateway.request import Request, prefill_leg_id
from gateway.routing.decider import Verdict
from gateway.timeouts import Timeouts
from gateway.worker_ledger import Booking
from proto.ticket import Ticket

NEVER = float("inf")


class Stage(Enum):
    WAITING = "waiting"
    PREFILLING = "prefilling"
    SUBMITTED = "submitted"
    STREAMING = "streaming"
    ENDED = "ended"


class Outcome(StrEnum):
    FINISHED = "finished"
    ABORTED = "aborted"
    FAILED = "failed"


class Dispatch(StrEnum):
    """When the decode leg of a hand-off is submitted."""

    TOGETHER = "together"  # with the prefill leg: KV is streamed while it is computed
    PREFILL_FIRST = "prefill-first"  # after it: KV is pulled when all of it is there


class Handoff(StrEnum):
    """How the prompt's KV came to be on the decode worker."""

    MOVED = "moved"  # from the prefill worker
    LOCAL = "local"  # computed there from the start
    REVOKED = "revoked"  # computed there after the prefill leg was lost
    REFUSED = "refused"  # computed there because the ticket was not taken
    FAILED = "failed"  # it did not: the request ended before


@dataclass(frozen=True, slots=True)
class Costs:
    """What was predicted: tokens of the prompt to compute, the seconds that takes, and room in
    the decode worker's KV cache. `is_long`: more tokens than a step of the worker takes.
    `moved_tokens`: of the prompt, whose KV is handed over.
    """

    num_tokens: int = 0
    seconds: float = 0.0
    kv_tokens: int = 0
    is_long: bool = False
    moved_tokens: int = 0


@dataclass(slots=True)
class RequestLife:
    """`decode_worker` and `prefill_worker` name the open legs' workers; None: not open.

    PREFILLING, `decode_worker` is where the decode leg will be.
    """

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
    has_moved: bool = False
    source: str | None = None
    costs: Costs = field(default_factory=Costs)
    verdict: Verdict | None = None
    submitted_at: float | None = None
    prefill_ended_at: float | None = None
    first_token_at: float | None = None
    num_outputs: int = 0
    num_prefills: int = 0
    room_for_outputs: float = NEVER
    _transfer_params: bytes = b""

    def __post_init__(self) -> None:
        self.deadline = self.arrived_at + self.timeouts.first_token

    @property
    def decode_leg_id(self) -> str:
        return self.request.request_id

    @property
    def prefill_leg_id(self) -> str:
        return prefill_leg_id(self.request.request_id, self.num_prefills)

    def open_legs(self) -> tuple[tuple[str, str], ...]:
        """(worker, leg id) of each."""
        legs = (
            (self.decode_worker, self.decode_leg_id),
            (self.prefill_worker, self.prefill_leg_id),
        )
        return tuple((worker, leg_id) for worker, leg_id in legs if worker is not None)

    def bookings(self) -> tuple[Booking, ...]:
        """What the open legs weigh on their workers."""
        prompt, costs = self.request.num_prompt_tokens, self.costs
        found: list[Booking] = []
        if self.decode_worker:
            is_starting = self.stage is not Stage.STREAMING
            # Revoked, it computes what another was to compute.
            computes = is_starting and self.ticket is None
            found.append(
                Booking(
                    self.decode_worker,
                    self.decode_leg_id,
                    (costs.num_tokens or prompt) if computes else 0,
                    costs.seconds if computes else 0.0,
                    costs.kv_tokens,
                    is_starting,
                    computes and costs.is_long,
                )
            )
        if self.prefill_worker:
            found.append(
                Booking(
                    self.prefill_worker,
                    self.prefill_leg_id,
                    costs.num_tokens,
                    costs.seconds,
                    prompt,
                    is_starting=True,
                    is_long=costs.is_long,
                )
            )
        return tuple(found)

    def submit(
        self,
        now: float,
        decode: str,
        prefill: str | None = None,
        ticket: Ticket | None = None,
        dispatch: Dispatch = Dispatch.TOGETHER,
        costs: Costs | None = None,
    ) -> list[Action]:
        """Together: decode first, so that it has told the prefill worker where to push in time."""
        self.decode_worker, self.ticket, self.submitted_at = decode, ticket, now
        self.costs = costs or Costs()
        if self.costs.kv_tokens:
            self.room_for_outputs = self.costs.kv_tokens - self.request.num_prompt_tokens
        if prefill is None:
            return [self._submit_decode(now)]
        self.prefill_worker = self.source = prefill
        # What is still told of the leg before this one is not about this one.
        self.num_prefills += 1
        self.prefill_deadline = now + self.timeouts.prefill
        prefill_leg = Submit(prefill, Leg.PREFILL, self.prefill_leg_id, self.request, ticket)
        if dispatch is Dispatch.TOGETHER:
            return [self._submit_decode(now), prefill_leg]
        self.stage = Stage.PREFILLING
        self.deadline = now + self.timeouts.first_token
        return [prefill_leg]

    def move(self, now: float, decode: str) -> list[Action]:
        """The decode worker gave its leg up before the first token: another takes its place."""
        self.decode_worker, self.has_moved = decode, True
        return [self._submit_decode(now)]

    def wait_again(self, now: float) -> list[Action]:
        """The decode worker had no room for it: back into the queue, as if nothing had been."""
        actions = self._abort_prefill()
        if self.ticket and self.source:
            actions.append(Revoke(self.source, self.ticket.id, "the decode worker has no room"))
        self._close_prefill()
        self.stage, self.deadline = Stage.WAITING, self.arrived_at + self.timeouts.first_token
        self.decode_worker = self.source = self.ticket = self.handoff = None
        self.costs = Costs()
        return actions

    def grow(self, block_size: int) -> list[Action]:
        """The answer has outgrown the room that was promised to it: now it is half as much again,
        and 64 tokens at least.
        """
        grown = self.request.num_prompt_tokens + self.num_outputs + max(64, self.num_outputs // 2)
        grown = -(-grown // block_size) * block_size
        self.costs = replace(self.costs, kv_tokens=grown)
        self.room_for_outputs = grown - self.request.num_prompt_tokens
        worker = self.decode_worker
        return [Reserve(worker, self.decode_leg_id, grown)] if worker else []

    def first_token(self, now: float) -> None:
        self.stage, self.first_token_at = Stage.STREAMING, now
        self.first_token_seconds = now - self.arrived_at
        self.deadline = now + self.timeouts.between_tokens
        if self.handoff is None:
            self.handoff = Handoff.MOVED if self.ticket else Handoff.LOCAL
        self.ticket = None

    def prefill_ended(self, now: float, transfer_params: bytes = b"") -> list[Action]:
        """The prefill leg ended well: the KV is on its way or there."""
        self.prefill_ended_at = now
        self.prefill_seconds = now - self.arrived_at
        self._transfer_params = transfer_params
        self._close_prefill()
        return [self._submit_decode(now)] if self.stage is Stage.PREFILLING else []

    def prefill_failed(self, now: float, reason: str, is_reachable: bool = True) -> list[Action]:
        """`is_reachable`: the prefill worker can still be told to stop."""
        ticket = self.ticket
        actions = self._abort_prefill() if is_reachable else []
        self._close_prefill()
        if not ticket or not self.decode_worker:
            return actions
        self.handoff, self.ticket = Handoff.REVOKED, None
        if self.stage is Stage.PREFILLING:
            return [*actions, self._submit_decode(now)]
        self.deadline = now + self.timeouts.first_token
        return [*actions, Revoke(self.decode_worker, ticket.id, reason)]

    def ticket_refused(self, now: float) -> list[Action]:
        """The decode worker computes the prompt itself: what the prefill worker does is in vain."""
        if self.stage is not Stage.SUBMITTED or not self.ticket or not self.source:
            return []
        revoke = Revoke(self.source, self.ticket.id, "the decode worker refused the ticket")
        actions = [*self._abort_prefill(), revoke]
        self._close_prefill()
        self.handoff, self.ticket = Handoff.REFUSED, None
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
        is_under_way = self.stage in (Stage.PREFILLING, Stage.SUBMITTED, Stage.STREAMING)
        assert is_under_way == bool(self.decode_worker), self
        assert self.stage is not Stage.PREFILLING or (self.prefill_worker and self.ticket), self
        assert (self.prefill_deadline < NEVER) == bool(self.prefill_worker), self
        assert not (self.stage is Stage.STREAMING and self.ticket), self

    def _timed_out(self) -> TimedOut:
        if self.stage is Stage.STREAMING:
            return TimedOut("further token", self.timeouts.between_tokens)
        return TimedOut("first token", self.timeouts.first_token)

    def _submit_decode(self, now: float) -> Submit:
        assert self.decode_worker
        self.stage = Stage.SUBMITTED
        self.deadline = now + self.timeouts.first_token
        params = self._transfer_params if self.ticket else b""
        return Submit(
            self.decode_worker,
            Leg.DECODE,
            self.decode_leg_id,
            self.request,
            self.ticket,
            params,
            self.costs.kv_tokens,
        )

    def _abort_prefill(self) -> list[Action]:
        return [Abort(self.prefill_worker, self.prefill_leg_id)] if self.prefill_worker else []

    def _close_prefill(self) -> None:
        self.prefill_worker, self.prefill_deadline = None, NEVER

    def _end(self, now: float, outcome: Outcome) -> list[Action]:
        actions: list[Action] = []
        if self.decode_worker and self.stage is not Stage.PREFILLING:
            actions.append(Abort(self.decode_worker, self.decode_leg_id))
        actions += self._abort_prefill()
        if self.ticket and self.source:
            # The source may hold the KV for a decode leg that will never fetch it.
            actions.append(Revoke(self.source, self.ticket.id, f"request {outcome}"))
        self._close_prefill()
        self.decode_worker = self.ticket = None
        self.stage, self.outcome = Stage.ENDED, outcome
        self.total_seconds = now - self.arrived_at
        return actions

    def __repr__(self) -> str:
        legs = ", ".join(f"{leg_id} at {worker}" for worker, leg_id in self.open_legs())
        return f"<RequestLife {self.request.request_id} {self.stage.value}: {legs or 'no legs'}>"
