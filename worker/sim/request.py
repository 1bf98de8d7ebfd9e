"""One request in a simulated engine."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from worker.sim.context import Context

# The keys of further full blocks of a request, after those of its first blocks.
NextKeys = Callable[[Sequence[int]], list[int]]


class Stage(Enum):
    WAITING = "waiting"
    LOADING = "loading"
    RUNNING = "running"
    ENDED = "ended"


class End(Enum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for. `next_keys` names each block after it is full, in order.

    `ticket`: of the hand-off that a leg is part of; the KV is fetched from `source`, or, if that
    is None, computed and kept for whoever fetches it.
    """

    engine_id: str
    prompt: Sequence[int] = field(repr=False)
    max_tokens: int
    next_keys: NextKeys = field(repr=False)
    min_tokens: int = 0
    stop_tokens: frozenset[int] = frozenset()
    ticket: bytes | None = None
    source: bytes | None = None


class Request:
    """A task, how far it is, and the KV that it holds.

    `ticket` is None again when the hand-off has been used, or is not to be.
    """

    __slots__ = (
        "arrived_at",
        "context",
        "first_scheduled_at",
        "keys",
        "num_cached",
        "num_loaded",
        "num_outputs",
        "num_preemptions",
        "num_stored",
        "stage",
        "task",
        "ticket",
        "tokens",
    )

    def __init__(self, task: Task, context: Context, now: float) -> None:
        self.task = task
        self.context = context
        self.arrived_at = now
        self.first_scheduled_at: float | None = None
        self.stage = Stage.WAITING
        self.tokens = array("Q", task.prompt)
        self.keys = task.next_keys(self.tokens[: self._num_full * context.pool.block_size])
        self.ticket = task.ticket
        self.num_outputs = 0
        self.num_cached = 0
        self.num_loaded = 0
        self.num_stored = 0
        self.num_preemptions = 0

    @property
    def num_prompt(self) -> int:
        return len(self.task.prompt)

    @property
    def num_uncomputed(self) -> int:
        return len(self.tokens) - self.context.num_tokens

    @property
    def is_source(self) -> bool:
        """Somebody may fetch its KV."""
        return self.ticket is not None and self.task.source is None

    @property
    def is_target(self) -> bool:
        """Its KV is to be fetched."""
        return self.ticket is not None and self.task.source is not None

    @property
    def _num_full(self) -> int:
        return len(self.tokens) // self.context.pool.block_size

    def store_blocks(self) -> None:
        """Those that are full by now can be found by others."""
        pool, size = self.context.pool, self.context.pool.block_size
        num_full = self.context.num_tokens // size
        if num_full > len(self.keys):
            unnamed = self.tokens[len(self.keys) * size : num_full * size]
            self.keys += self.task.next_keys(unnamed)
        for index in range(self.num_stored, num_full):
            pool.store(self.context.blocks[index], self.keys[index])
        self.num_stored = max(self.num_stored, num_full)

    def add(self, token: int, max_model_len: int) -> End | None:
        """One more token of the answer; whether it is the last."""
        self.tokens.append(token)
        self.num_outputs += 1
        if token in self.task.stop_tokens and self.num_outputs >= self.task.min_tokens:
            return End.STOP
        is_full = self.num_outputs >= self.task.max_tokens or len(self.tokens) >= max_model_len
        return End.LENGTH if is_full else None

    def start_over(self) -> None:
        """Its KV is gone, and will be computed again."""
        self.context.clear()
        self.num_preemptions += 1

    def __repr__(self) -> str:
        return (
            f"<Request {self.task.engine_id} {self.stage.value}: {self.context.num_tokens} of "
            f"{len(self.tokens)} tokens>"
        )
