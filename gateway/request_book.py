"""Every request that is open, and what each event means for it.

Pure and synchronous: methods change the state and return what to do. Nothing in here
knows of gRPC, HTTP or vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.actions import Action, Fail
from gateway.errors import NoDecodeWorker, RequestError, WorkerFull, WorkerLost
from gateway.request import Request
from gateway.request_life import Costs, Dispatch, Outcome, RequestLife, Stage
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.experience import Experience
from gateway.routing.placement import Placement
from gateway.siblings import Siblings
from gateway.ticket_office import TicketOffice
from gateway.timeouts import Timeouts
from gateway.worker_ledger import Booking, WorkerLedger
from proto import worker_pb2


@dataclass(slots=True)
class RequestBook:
    """`dispatcher` has the queue, `tickets` gives a ticket for each hand-off; `on_end` is told of
    each life when it has ended. `lives` has every open request by its id.
    """

    dispatcher: Dispatcher
    tickets: TicketOffice
    timeouts: Timeouts = field(default_factory=Timeouts)
    dispatch: Dispatch = Dispatch.TOGETHER
    on_end: Callable[[RequestLife], None] = lambda life: None
    ledger: WorkerLedger = field(default_factory=WorkerLedger)
    lives: dict[str, RequestLife] = field(default_factory=dict)
    _prefills: dict[str, RequestLife] = field(default_factory=dict)
    _siblings: dict[str, Siblings] = field(default_factory=dict)
    _booked: dict[str, tuple[Booking, ...]] = field(default_factory=dict)
    _experience: Experience = field(init=False)

    def __post_init__(self) -> None:
        self._experience = Experience(self.dispatcher)

    def add(self, request: Request, now: float) -> list[Action]:
        if request.request_id in self.lives:
            return [Fail(request, RequestError("The request id is in use."))]
        life = self.lives[request.request_id] = RequestLife(request, self.timeouts, now)
        if request.parent_id is None:
            return self._queue(life, now) + self.begin(now)
        siblings = self._siblings.setdefault(request.parent_id, Siblings())
        if siblings.join(request.request_id):
            return []
        return self._queue(life, now, siblings.home) + self.begin(now)

    def begin(self, now: float) -> list[Action]:
        """Whatever can be started now."""
        actions: list[Action] = []
        for request, placement in self.dispatcher.ready(now):
            actions += self._start(self.lives[request.request_id], placement, now)
        return actions

    def reported(self, worker: str, report: worker_pb2.LoadReport, now: float) -> None:
        """The worker says how loaded it is."""
        self.dispatcher.table.report(worker, report, now)

    def first_token(self, life: RequestLife, now: float) -> list[Action]:
        home = life.decode_worker
        life.first_token(now)
        self._experience.first_token(life)
        self.dispatcher.settle(life.request.request_id)
        actions = self._settle(life, [], now)
        siblings = self._siblings.get(life.request.parent_id or "")
        if siblings is not None and siblings.home is None and home is not None:
            for follower in map(self.lives.__getitem__, siblings.arrive(home)):
                actions += self._queue(follower, now, home)
        return actions + self.begin(now)

    def grown(self, life: RequestLife, now: float) -> list[Action]:
        """It has more tokens than room was promised for: what others may have is less."""
        return self._settle(life, life.grow(self.dispatcher.table.block_tokens), now)

    def finished(self, life: RequestLife, now: float) -> list[Action]:
        self._experience.finished(life, now)
        return self._settle(life, life.finish(now), now) + self.begin(now)

    def failed(self, life: RequestLife, error: RequestError, now: float) -> list[Action]:
        return self._settle(life, life.fail(now, error), now) + self.begin(now)

    def abort(
        self, request_ids: Iterable[str], now: float, outcome: Outcome = Outcome.ABORTED
    ) -> list[Action]:
        """Unknown ids are passed over: they have ended."""
        lives = [self.lives[i] for i in dict.fromkeys(request_ids) if i in self.lives]
        self._withdraw(lives)
        actions: list[Action] = []
        for life in lives:
            actions += self._settle(life, life.abort(now, outcome), now)
        return actions + self.begin(now)

    def fail_all(self, error: RequestError, now: float) -> list[Action]:
        lives = list(self.lives.values())
        self._withdraw(lives)
        actions: list[Action] = []
        for life in lives:
            actions += self._settle(life, life.fail(now, error), now)
        return actions

    def prefill_ended(self, leg_id: str, now: float, transfer_params: bytes = b"") -> list[Action]:
        if life := self._prefills.get(leg_id):
            return self._settle(life, life.prefill_ended(now, transfer_params), now) + self.begin(
                now
            )
        return []

    def ticket_refused(self, worker: str, leg_id: str, now: float) -> list[Action]:
        """The worker runs this decode leg without its hand-off."""
        life = self.lives.get(leg_id)
        if life is None or life.decode_worker != worker:
            return []
        return self._settle(life, life.ticket_refused(now), now) + self.begin(now)

    def leg_failed(self, worker: str, leg_id: str, error: RequestError, now: float) -> list[Action]:
        """The worker gave one leg up. Unknown legs are passed over: they have ended."""
        if life := self._prefills.get(leg_id):
            return self._settle(life, life.prefill_failed(now, str(error)), now) + self.begin(now)
        life = self.lives.get(leg_id)
        if life is None or life.decode_worker != worker:
            return []
        if isinstance(error, WorkerFull) and life.stage is Stage.SUBMITTED:
            return self._wait_again(life, worker, now)
        if other := self._other_worker(life, error, now):
            actions = self._settle(life, life.move(now, other.decode.key), now)
            return actions + self.begin(now)
        return self.failed(life, error, now)

    def worker_lost(self, worker: str, now: float) -> list[Action]:
        """Its session ended, and with it all that it had open for us.

        The table must not have it as usable any more.
        """
        for siblings in self._siblings.values():
            siblings.lose_home(worker)
        actions: list[Action] = []
        for leg_id in self.ledger.legs(worker):
            actions += self._leg_lost(worker, leg_id, now)
        return actions + self.begin(now)

    def overdue(self, now: float) -> list[Action]:
        """What to do about every deadline that has passed."""
        late = [x for x in self.lives.values() if now >= min(x.deadline, x.prefill_deadline)]
        self._withdraw(each for each in late if now >= each.deadline)
        actions: list[Action] = []
        for life in late:
            # One may have ended with another.
            if life.stage is not Stage.ENDED:
                actions += self._settle(life, life.overdue(now), now)
        return actions + self.begin(now)

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other."""
        self.ledger.check_integrity()
        self.dispatcher.check_integrity()
        for request_id, life in self.lives.items():
            life.check_integrity()
            assert request_id == life.request.request_id and life.stage is not Stage.ENDED, life
            assert request_id not in self.dispatcher.lanes or life.stage is Stage.WAITING, life
        for siblings in self._siblings.values():
            siblings.check_integrity()
            assert siblings.members and siblings.members <= self.lives.keys(), siblings
        assert all(item.request_id in self.lives for item in self.dispatcher.lanes)
        legs = {leg for life in self.lives.values() for leg in life.open_legs()}
        booked = {(w, leg_id) for w in self.ledger.workers for leg_id in self.ledger.legs(w)}
        assert legs == booked, (legs, booked)
        prefills = {life.prefill_leg_id for life in self.lives.values() if life.prefill_worker}
        assert prefills == self._prefills.keys(), (prefills, self._prefills)
        assert self._booked.keys() <= self.lives.keys(), (self._booked, self.lives)

    def _queue(self, life: RequestLife, now: float, home: str | None = None) -> list[Action]:
        """`home`: the worker that has its prompt already. It has waited since it came."""
        since = life.arrived_at
        is_queued = (
            self.dispatcher.add(life.request, now, since)
            if home is None
            else self.dispatcher.add_to(home, life.request, now, since)
        )
        if is_queued:
            return []
        return self._settle(life, life.fail(now, NoDecodeWorker()), now)

    def _start(self, life: RequestLife, placement: Placement, now: float) -> list[Action]:
        decode, prefill = placement.decode, placement.prefill
        costs = Costs(
            placement.num_tokens,
            placement.seconds,
            placement.kv_tokens,
            placement.is_long,
            placement.moved_tokens,
        )
        if life.submitted_at is None:
            self.dispatcher.counts.add(life.request.num_prompt_tokens, placement.num_tokens)
        life.verdict = placement.verdict
        self._tell_route(life)
        if prefill is None:
            return self._settle(life, life.submit(now, decode.key, costs=costs), now)
        ticket = self.tickets.issue(prefill, life.request)
        dispatch = Dispatch.PREFILL_FIRST if prefill.is_pulled_from else self.dispatch
        actions = life.submit(now, decode.key, prefill.key, ticket, dispatch, costs)
        return self._settle(life, actions, now)

    def _tell_route(self, life: RequestLife) -> None:
        exchange = life.request.exchange
        if exchange is None or not exchange.wants_route:
            return
        if explanation := self.dispatcher.explanations.get(life.request.request_id):
            exchange.route = explanation.header()

    def _wait_again(self, life: RequestLife, worker: str, now: float) -> list[Action]:
        """Another gateway was faster."""
        self.dispatcher.table.note_full(worker)
        actions = self._settle(life, life.wait_again(now), now)
        return actions + self._queue(life, now) + self.begin(now)

    def _other_worker(self, life: RequestLife, error: RequestError, now: float) -> Placement | None:
        """Who takes a decode leg that its worker gave up before the first token; once."""
        if not error.is_retryable or life.has_moved or life.stage is not Stage.SUBMITTED:
            return None
        assert life.decode_worker
        if life.ticket and life.source:
            return self.dispatcher.decode_again(life.request, life.source, now, life.decode_worker)
        return self.dispatcher.lost_placement(life.request, now, life.decode_worker)

    def _leg_lost(self, worker: str, leg_id: str, now: float) -> list[Action]:
        if life := self._prefills.get(leg_id):
            reason = f"prefill worker {worker} was lost"
            return self._settle(life, life.prefill_failed(now, reason, is_reachable=False), now)
        if life := self.lives.get(leg_id):
            return self._settle(life, life.fail(now, WorkerLost(worker), lost_worker=worker), now)
        return []

    def _settle(self, life: RequestLife, actions: list[Action], now: float) -> list[Action]:
        """Books what a change opened and closed; follows up if the life ended."""
        request_id, bookings = life.request.request_id, life.bookings()
        before = self._booked.pop(request_id, ())
        for worker in self.ledger.move(before, bookings):
            self.dispatcher.table.book(worker, self.ledger.booked(worker), now)
        if bookings:
            self._booked[request_id] = bookings
        if life.prefill_worker:
            self._prefills[life.prefill_leg_id] = life
        else:
            self._prefills.pop(life.prefill_leg_id, None)
        return [*actions, *self._remove(life, now)] if life.stage is Stage.ENDED else actions

    def _remove(self, life: RequestLife, now: float) -> list[Action]:
        request_id, parent = life.request.request_id, life.request.parent_id or ""
        del self.lives[request_id]
        self.dispatcher.withdraw(request_id)
        self.dispatcher.settle(request_id)
        self.on_end(life)
        if (siblings := self._siblings.get(parent)) is None:
            return []
        leader = siblings.leave(request_id)
        if not siblings.members:
            del self._siblings[parent]
        return self._queue(self.lives[leader], now) if leader else []

    def _withdraw(self, lives: Iterable[RequestLife]) -> None:
        # First all of them, so that none takes the lead only to be ended next.
        for life in lives:
            if siblings := self._siblings.get(life.request.parent_id or ""):
                siblings.withdraw(life.request.request_id)

    def __repr__(self) -> str:
        return f"<RequestBook {len(self.lives)} open, {self.ledger!r}>"
