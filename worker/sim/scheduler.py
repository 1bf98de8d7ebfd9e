"""Which requests a simulated engine computes next: vLLM's rules, with blocks for all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from worker.pieces import Pieces
from worker.sim.batch import Batch
from worker.sim.blocks import BlockPool
from worker.sim.limits import SimLimits
from worker.sim.request import Request, Stage


class Scheduler:
    """First come, first served: those that run go on, then those that wait come in.

    When blocks run out, the last one that runs is preempted: it loses its blocks and waits,
    before all others. `on_load` starts the load of a request that has its blocks then,
    `on_declined` is told of one that lacks nothing, and `on_preempted` before blocks are gone.
    """

    def __init__(
        self,
        limits: SimLimits,
        pool: BlockPool,
        on_load: Callable[[Request], None],
        on_declined: Callable[[Request], None],
        on_preempted: Callable[[Request], None],
    ) -> None:
        self.waiting: deque[Request] = deque()
        self.loading: set[Request] = set()
        self.running: list[Request] = []
        self._limits = limits
        self._pool = pool
        self._on_load = on_load
        self._on_declined = on_declined
        self._on_preempted = on_preempted
        self.pieces = Pieces(limits.itl_goal_seconds)
        self._longest = limits.max_chunk_tokens

    def plan(self, now: float) -> Batch | None:
        """The next step; None if there is nothing to compute."""
        batch = Batch(now)
        budget = self._go_on(batch)
        if budget is not None:
            self._let_in(batch, budget, now)
        return batch if batch.parts else None

    def put_first(self, request: Request) -> None:
        """It waits, before all others."""
        self.loading.discard(request)
        request.stage = Stage.WAITING
        self.waiting.appendleft(request)

    def drop(self, request: Request) -> None:
        """It has ended."""
        match request.stage:
            case Stage.WAITING:
                self.waiting.remove(request)
            case Stage.LOADING:
                self.loading.remove(request)
            case Stage.RUNNING:
                self.running.remove(request)
        request.stage = Stage.ENDED

    def _room(self) -> tuple[int, int]:
        """Tokens of the next step, and of one prompt in it."""
        most, longest = self._limits.max_batch_tokens, self._limits.max_chunk_tokens
        num_prompts = sum(each.num_uncomputed > 1 for each in self.running)
        return self.pieces.limits(most, longest, len(self.running) - num_prompts, num_prompts)

    def _go_on(self, batch: Batch) -> int | None:
        """The tokens that are left for others; None if there was a preemption."""
        budget, self._longest = self._room()
        num_running = len(self.running)
        for index in range(num_running):
            if index >= len(self.running) or not budget:
                break
            request = self.running[index]
            context = request.context
            num_tokens = len(request.tokens) - context.num_tokens
            if num_tokens > 1:
                num_tokens = min(num_tokens, budget, self._longest)
            if context.num_tokens + num_tokens > context.room and not self._grow(
                request, num_tokens
            ):
                break
            batch.add(request, num_tokens)
            budget -= num_tokens
        return budget if len(self.running) == num_running else None

    def _grow(self, request: Request, num_tokens: int) -> bool:
        """False if the request itself had to give its blocks away."""
        while not self._take_blocks(request, request.context.num_tokens + num_tokens):
            victim = self.running.pop()
            self._on_preempted(victim)
            victim.start_over()
            self.put_first(victim)
            if victim is request:
                return False
        return True

    def _let_in(self, batch: Batch, budget: int, now: float) -> None:
        passed: list[Request] = []
        while self.waiting and budget and len(self.running) < self._limits.max_running:
            request = self.waiting.popleft()
            if not self._prepare(request):
                self.waiting.appendleft(request)
                break
            if request.is_target and request.num_uncomputed > 1:
                if len(self.loading) < self._limits.max_loads:
                    self._load(request)
                else:
                    request.context.clear()
                    passed.append(request)
                continue
            self._run(request, now)
            num_tokens = min(request.num_uncomputed, budget, self._longest)
            batch.add(request, num_tokens)
            budget -= num_tokens
        self.waiting.extendleft(reversed(passed))

    def _prepare(self, request: Request) -> bool:
        """With blocks for all its tokens, those that are cached first. False: there are too few."""
        context = request.context
        if not context.blocks:
            size = self._pool.block_size
            found = self._pool.find(request.keys[: (len(request.tokens) - 1) // size])
            missing = -(-len(request.tokens) // size) - len(found)
            if missing > self._pool.num_free - self._pool.num_idle(found):
                return False
            self._pool.hold(found)
            context.blocks, context.num_tokens = found, len(found) * size
            request.num_stored = len(found)
            if not request.num_preemptions:
                request.num_cached = context.num_tokens
        return self._take_blocks(request, len(request.tokens))

    def _take_blocks(self, request: Request, num_tokens: int) -> bool:
        """Enough for so many tokens in all."""
        blocks = request.context.blocks
        missing = -(-num_tokens // self._pool.block_size) - len(blocks)
        if missing <= 0:
            return True
        taken = self._pool.allocate(missing)
        if taken is None:
            return False
        blocks += taken
        return True

    def _load(self, request: Request) -> None:
        request.stage = Stage.LOADING
        self.loading.add(request)
        self._on_load(request)

    def _run(self, request: Request, now: float) -> None:
        if request.is_target:
            self._on_declined(request)
        request.stage = Stage.RUNNING
        self.running.append(request)
        if request.first_scheduled_at is None:
            request.first_scheduled_at = now

    def __repr__(self) -> str:
        return (
            f"<Scheduler: {len(self.running)} running, {len(self.waiting)} waiting, "
            f"{len(self.loading)} loading>"
        )
