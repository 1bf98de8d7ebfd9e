"""The queue of the gateway: what waits for which worker, and what may begin now.

A worker is handed only what it can start. Pure and synchronous; `now` is in seconds of any
steady clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gateway.request import Request
from gateway.routing.binder import PATIENCE_SECONDS, Binder
from gateway.routing.decider import Verdict
from gateway.routing.explanation import Explanations
from gateway.routing.fleet_table import FleetTable
from gateway.routing.hits import Hits, NoHits
from gateway.routing.lanes import Lanes, Waiting
from gateway.routing.output_lengths import OutputLengths
from gateway.routing.placement import Placement
from gateway.routing.room import Room
from gateway.routing.router import Plan, Router
from gateway.routing.scene import Query
from gateway.routing.takeover import may_go, taken_over, way_of
from gateway.routing.way import Way

# Of a lane, how many are tried when those before them lack room where they would be decoded.
MAX_TRIED = 8
# How much later a prompt goes that takes a second longer: it waits for what comes within so many.
AGING_SECONDS = 2.0
# One step of priority is worth so many seconds of waiting, up to so many steps.
PRIORITY_SECONDS = 10.0
MOST_PRIORITY = 100
# Who waits for blocks that another is computing, waits so many times as long as that takes.
GAP_PATIENCE = 4.0


@dataclass(slots=True)
class TokenCounts:
    """Of the prompts that were sent to workers: all, and those that the index took to be cached."""

    prompt_tokens: int = 0
    cached_tokens: int = 0

    def add(self, num_prompt_tokens: int, num_computed: int) -> None:
        self.prompt_tokens += num_prompt_tokens
        self.cached_tokens += max(0, num_prompt_tokens - num_computed)

    @property
    def hit_rate(self) -> float | None:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else None


class Dispatcher:
    """Without `hits` nothing is known of caches."""

    def __init__(
        self,
        table: FleetTable,
        router: Router | None = None,
        hits: Hits | None = None,
    ) -> None:
        self.table = table
        self.router = router or Router(table)
        self.lengths = OutputLengths()
        self.lanes = Lanes(self._note_queue)
        self.explanations = Explanations()
        self.counts = TokenCounts()
        self._hits = hits or NoHits(table)
        self._binder = Binder(self.router, self.explanations)
        self._requests: dict[str, Request] = {}
        self._stranded: dict[str, float] = {}
        self._keys = table.keys
        self._generation = table.generation

    def add(self, request: Request, now: float, since: float | None = None) -> bool:
        """Into the queue. False if nobody can take it, whatever is waited for.

        `since`: it came then, if not now.
        """
        if not self._requests:
            self._follow_rows()
        query = self._query(request)
        plan = self.router.plan(query, now)
        if plan is None:
            return False
        self._requests[request.request_id] = request
        self._put(request, query, plan, now if since is None else since)
        return True

    def add_to(self, worker: str, request: Request, now: float, since: float | None = None) -> bool:
        """The same, for a request whose prompt is on this worker."""
        row = self.table.rows.get(worker)
        if row is None or not self.table.columns.can_decode[row]:
            return self.add(request, now, since)
        query = self._query(request)
        query.cached[row] = request.num_prompt_tokens - 1
        plan = self.router.plan_on(row, query, Verdict(Way.LOCAL), now)
        self._requests[request.request_id] = request
        self._put(request, query, plan, now if since is None else since, is_pinned=True)
        return True

    def withdraw(self, request_id: str) -> None:
        """Out of the queue; unless it waits, nothing happens."""
        self._stranded.pop(request_id, None)
        self._requests.pop(request_id, None)
        self.lanes.take(request_id)
        self._binder.forget(request_id)

    def settle(self, request_id: str) -> None:
        """Its prompt's KV is where it was to be, or will not come."""
        self._hits.settle(request_id)

    def ready(self, now: float) -> Iterator[tuple[Request, Placement]]:
        """Who begins now. Each is to be booked before the next is asked for."""
        if not self._requests:
            return
        self._plan_anew(now)
        for worker in self.lanes.workers:
            yield from self._ready_on(worker, now)
        yield from self._spilled(now)

    @property
    def num_waiting(self) -> int:
        return len(self._requests)

    def lost_placement(self, request: Request, now: float, without: str) -> Placement | None:
        """Another worker, for a request whose decode worker gave it up: computed there."""
        query = self._query(request)
        choice = self.router.local_for(query, now, without)
        if choice is None:
            return None
        return self._placement(None, choice.row, query, request)

    def decode_again(
        self, request: Request, source: str, now: float, without: str
    ) -> Placement | None:
        """Another worker for KV that `source` computes already."""
        row = self.table.rows.get(source)
        if row is None:
            return None
        query = self._query(request)
        choice = self.router.decode_for(query, row, 0.0, now, without)
        return self._placement(row, choice.row, query, request) if choice else None

    def _expect(self, request: Request, *workers: str) -> None:
        """They will hold this prompt's blocks: who shares them is sent there as well."""
        self._hits.expect(request.request_id, workers, request.block_keys)

    def _query(self, request: Request) -> Query:
        cached, below = self._hits.of(request.block_keys)
        expected = self.lengths.expected if request.max_tokens is None else request.max_tokens
        # Room is taken by whole blocks.
        block_size = self.table.block_tokens
        num_blocks = -(-(request.num_prompt_tokens + expected) // block_size)
        return Query(
            request.num_prompt_tokens,
            num_blocks * block_size,
            cached,
            below,
            request.can_hand_off,
            self.router.residency.workers_of(request.session),
            request.lora,
        )

    def _put(
        self,
        request: Request,
        query: Query,
        plan: Plan,
        since: float,
        *,
        is_pinned: bool = False,
    ) -> None:
        worker = self.table.keys[plan.row]
        priority = max(-MOST_PRIORITY, min(MOST_PRIORITY, request.priority))
        rank = since + AGING_SECONDS * plan.seconds + PRIORITY_SECONDS * priority
        if request.deadline is not None:
            # The later of the two would be too late.
            rank = min(rank, request.deadline - plan.seconds)
        self._expect(request, worker)
        self.lanes.put(
            Waiting(
                request.request_id,
                worker,
                plan.seconds,
                plan.num_tokens,
                rank,
                since,
                query,
                plan.verdict,
                plan.choice,
                is_pinned,
            )
        )

    def _plan_anew(self, now: float) -> None:
        """Who waits for a worker that cannot take it any more, each with all it has waited; whom
        nobody could take, once others are usable; and everybody when there are more rows.
        """
        has_grown = self._follow_rows()
        has_changed = self._generation != self.table.generation
        if has_changed:
            self._generation = self.table.generation
            for request_id, since in tuple(self._stranded.items()):
                self._plan_again(request_id, since, now)
        has_partner = self.table.has_partner()
        for worker in self.lanes.workers:
            row = self._usable_row(worker)
            if row is None or has_grown:
                most_tokens, local_may_stay = -1.0, False
            elif has_partner[row] and not has_changed:
                continue
            else:
                most_tokens, local_may_stay = self.table.most_partner_tokens(row), True
            for item in self.lanes.lane(worker):
                # Who is decoded where its prompt is computed needs no partner.
                if item.verdict.way is Way.LOCAL and local_may_stay:
                    continue
                if item.verdict.way is Way.LOCAL or item.query.num_prompt_tokens > most_tokens:
                    self.lanes.take(item.request_id)
                    self._binder.forget(item.request_id)
                    self._plan_again(item.request_id, item.since, now)

    def _follow_rows(self) -> bool:
        """What was known of a row's last worker is not so of the next. True if there are more."""
        before, after = self._keys, self.table.keys
        if before is after:
            return False
        self._keys = after
        changed = [row for row, key in enumerate(before) if key != after[row]]
        for key in filter(None, map(before.__getitem__, changed)):
            self.router.residency.forget(key)
        for row in changed:
            self.router.pairs.forget(row)
        for item in self.lanes:
            item.query.forget(changed)
        return len(before) != len(after)

    def _usable_row(self, worker: str) -> int | None:
        """None if the worker takes nothing new."""
        columns, row = self.table.columns, self.table.rows.get(worker)
        if row is None or not (columns.can_prefill[row] or columns.can_decode[row]):
            return None
        return row

    def _plan_again(self, request_id: str, since: float, now: float) -> None:
        request = self._requests[request_id]
        query = self._query(request)
        plan = self.router.plan(query, now)
        if plan is None:
            self._stranded[request_id] = since
            return
        self._stranded.pop(request_id, None)
        self._put(request, query, plan, since)

    def _ready_on(self, worker: str, now: float) -> Iterator[tuple[Request, Placement]]:
        row = self._usable_row(worker)
        if row is None:
            return
        room = Room.of(self.table, row, now)
        if room.is_none:
            return
        num_tried = 0
        for item in self.lanes.lane(worker):
            if num_tried == MAX_TRIED:
                return
            if not room.takes(item.num_tokens):
                continue
            gap_tokens = self._gap_tokens(item, row)
            if self._is_worth_waiting(item, row, gap_tokens, now):
                continue
            if not room.takes(item.num_tokens + gap_tokens):
                continue
            num_tried += 1
            placement = self._binder.bind(self._without_gap(item, row, gap_tokens), row, now)
            if placement is None:
                self._binder.note_full(item, now)
                continue
            yield self._begin(item, placement, row)
            num_tried, room = 0, Room.of(self.table, row, now)

    def _spilled(self, now: float) -> Iterator[tuple[Request, Placement]]:
        """Workers with nothing to do take over from the longest lane what they finish sooner."""
        columns = self.table.columns
        if not len(self.lanes):
            return
        may = (columns.num_queued == 0) & (columns.num_prefills == 0)
        prefill = np.flatnonzero(may & columns.can_prefill)[:MAX_TRIED]
        decode = np.flatnonzero(may & columns.can_decode & ~columns.can_prefill)[:MAX_TRIED]
        for row in (*prefill.tolist(), *decode.tolist()):
            longest = self.lanes.longest()
            if longest is None:
                return
            for item in self._movable(longest, row)[:MAX_TRIED]:
                taken = taken_over(item, row, self.router, now)
                placement = self._binder.bind(taken, row, now) if taken else None
                if placement is not None:
                    yield self._begin(item, placement, row)
                    break

    def _movable(self, worker: str, row: int) -> list[Waiting]:
        """Who waits for `worker` and may be computed by another."""
        way = way_of(self.table, row)
        mode = self.router.decider.mode
        return [item for item in self.lanes.lane(worker) if may_go(item, way, mode)]

    def _gap_tokens(self, item: Waiting, row: int) -> int:
        """Of its prompt, what was expected to be in the worker's cache by now and is not."""
        expected = min(int(item.query.cached[row]), item.query.num_prompt_tokens - 1)
        if not expected or item.is_pinned:
            return 0
        keys = self._requests[item.request_id].block_keys
        return max(0, expected - self._hits.held_tokens(item.worker, keys))

    def _is_worth_waiting(self, item: Waiting, row: int, gap_tokens: int, now: float) -> bool:
        """Another request is computing what it would have to compute as well."""
        columns = self.table.columns
        if not gap_tokens or not columns.num_starting[row]:
            return False
        seconds = GAP_PATIENCE * gap_tokens * float(columns.prefill_token[row])
        return now - item.since < PATIENCE_SECONDS + seconds

    def _without_gap(self, item: Waiting, row: int, gap_tokens: int) -> Waiting:
        """What it takes by what is in the cache now."""
        if not gap_tokens:
            return item
        more = gap_tokens * float(self.table.columns.prefill_token[row])
        num_tokens = item.num_tokens + gap_tokens
        return replace(item, num_tokens=num_tokens, seconds=item.seconds + more)

    def _placement(self, source: int | None, row: int, query: Query, request: Request) -> Placement:
        facts = self.table.facts(row)
        prefill = None if source is None else self.table.facts(source)
        num_tokens = 0 if prefill else request.num_prompt_tokens
        return Placement(facts, prefill, num_tokens, 0.0, query.kv_tokens)

    def _begin(self, item: Waiting, placement: Placement, row: int) -> tuple[Request, Placement]:
        """`row` computes the prompt."""
        request = self._requests[item.request_id]
        self.withdraw(item.request_id)
        workers = (self.table.keys[row], placement.decode.key)
        # Where it was planned is not where its blocks will be, if another took it over.
        self._expect(request, *workers)
        self.router.residency.note(workers, request.session, request.lora)
        return request, placement

    def _note_queue(self, worker: str, num_requests: int, seconds: float) -> None:
        if (row := self.table.rows.get(worker)) is not None:
            self.table.queue(row, num_requests, seconds)

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other."""
        self.lanes.check_integrity()
        self.table.check_integrity()
        waiting = {item.request_id for item in self.lanes}
        assert waiting | self._stranded.keys() == self._requests.keys(), self
        assert not waiting & self._stranded.keys(), self

    def __repr__(self) -> str:
        return f"<Dispatcher {self.lanes!r}, {self.table!r}>"
