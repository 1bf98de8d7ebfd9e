"""A simulated engine behind the interface of a real one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Protocol

from fleet.tier import Tier
from worker.block_change import BlockChange, Kind
from worker.interface import EngineFacts
from worker.leg import Order, Role
from worker.load import Load
from worker.request_check import RequestLimits
from worker.sim.core import SimCore, Token
from worker.sim.request import NextKeys, Task
from worker.sim.step import SimStep
from worker.ticket_check import check_prompt

# All engines of a process together tell of their loads about so often, and each one at most
# every LOAD_SECONDS: a message costs more than a step. One that becomes idle does so at once.
LOADS_PER_SECOND = 400
LOAD_SECONDS = 0.05


class Codec(Protocol):
    """What of vLLM's a simulated engine needs; `worker.engine_codec` has it."""

    def decode(self, frames: Sequence[bytes]) -> Any:
        """An EngineCoreRequest. Raises BadRequest."""

    def names(self, cache_salt: str | None) -> NextKeys:
        """Those of a request's blocks, one after the other."""

    def encode(
        self, tokens: Iterable[Token], names: Mapping[str, str], timestamp: float
    ) -> Sequence[bytes]:
        """vLLM's frames of the tokens of the engine ids in `names`, under the ids there."""


class SimEngine:
    """See `worker.interface.Engine`. Nothing waits: all of it is done when a call returns."""

    def __init__(
        self,
        core: SimCore,
        codec: Codec,
        facts: EngineFacts,
        limits: RequestLimits,
        clock: Callable[[], float],
        num_engines: int = 1,
    ) -> None:
        """`num_engines`: in this process."""
        self.facts = facts
        self._core = core
        self._codec = codec
        self._limits = limits
        self._clock = clock
        self._steps: deque[SimStep] = deque()
        self._has_steps = asyncio.Event()
        self._has_changes = asyncio.Event()
        self._load_seconds = max(LOAD_SECONDS, num_engines / LOADS_PER_SECOND)
        self._told_at = -self._load_seconds
        layout = facts.kv_layout
        self._block_bytes = layout.bytes_per_token * layout.block_size
        core.on_step = self._take

    async def submit(self, order: Order) -> None:
        request = self._codec.decode(order.frames)
        self._limits.check(request)
        ticket = order.ticket
        if ticket:
            check_prompt(ticket, request)
        sampling = request.sampling_params
        is_prefill = order.leg.role is Role.PREFILL
        source = ticket.source_addresses[0] if ticket and not is_prefill else None
        self._core.submit(
            Task(
                engine_id=order.engine_id,
                prompt=request.prompt_token_ids,
                max_tokens=1 if is_prefill else sampling.max_tokens,
                next_keys=self._codec.names(request.cache_salt),
                min_tokens=0 if is_prefill else sampling.min_tokens,
                stop_tokens=frozenset(() if is_prefill else sampling.stop_token_ids or ()),
                ticket=ticket.id if ticket else None,
                source=source,
            )
        )
        self._note_changes()

    async def abort(self, engine_ids: Sequence[str]) -> None:
        self._core.abort(engine_ids)
        self._tell_load()

    async def revoke(self, ticket_id: bytes, reason: str) -> bool:
        return self._core.revoke(ticket_id)

    async def introduce(self, addresses: Sequence[bytes]) -> None:
        """All workers of the process are connected, and no others can be."""

    async def part(self, addresses: Sequence[bytes]) -> None:
        self._core.part(addresses)

    async def steps(self) -> AsyncIterator[SimStep]:
        while True:
            while self._steps:
                yield self._steps.popleft()
            self._has_steps.clear()
            await self._has_steps.wait()

    async def block_changes(self) -> AsyncIterator[Sequence[BlockChange]]:
        pool = self._core.pool
        pool.journal = []
        while True:
            await self._has_changes.wait()
            self._has_changes.clear()
            entries, pool.journal = pool.journal, []
            yield [
                BlockChange(kind, Tier.DEVICE, [key for _, key in group])
                for kind, group in groupby(entries, key=kind_of)
            ]

    async def held_blocks(self) -> Sequence[int]:
        return self._core.pool.keys

    async def report(self) -> Load:
        return replace(self._load(), held=self._core.held_bytes(self._block_bytes))

    def _take(self, tokens: list[Token]) -> None:
        """What a step has brought."""
        self._note_changes()
        if tokens:
            load = self._load() if self._is_load_due() else None
            self._put(SimStep(tokens, load, self._clock(), self._codec.encode))
        elif self._is_load_due():
            self._tell_load()

    def _is_load_due(self) -> bool:
        return self._core.is_idle or self._clock() >= self._told_at + self._load_seconds

    def _tell_load(self) -> None:
        self._put(SimStep((), self._load(), self._clock(), self._codec.encode))

    def _put(self, step: SimStep) -> None:
        self._steps.append(step)
        self._has_steps.set()

    def _note_changes(self) -> None:
        if self._core.pool.journal:
            self._has_changes.set()

    def _load(self) -> Load:
        self._told_at = self._clock()
        core, block_bytes = self._core, self._block_bytes
        return Load(
            num_running=core.num_running,
            num_waiting=core.num_waiting,
            num_kv_blocks=core.pool.num_blocks,
            num_kv_blocks_used=core.pool.num_held,
            transfers=core.tally.transfers(
                core.port,
                len(core.sends),
                len(core.loads),
                sum(len(each.context.blocks) for each in core.sends.values()) * block_bytes,
                sum(len(each.context.blocks) for each in core.loads.values()) * block_bytes,
            ),
            work=core.work,
        )


def kind_of(entry: tuple[Kind, int]) -> Kind:
    return entry[0]
