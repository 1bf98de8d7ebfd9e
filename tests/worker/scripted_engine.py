"""An engine that does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from proto import worker_pb2
from tests.proto.builders import LAYOUT
from worker.block_change import BlockChange
from worker.errors import BadRequest, EngineLost, ForeignPrompt
from worker.interface import EngineFacts
from worker.leg import Order
from worker.load import Load

FACTS = EngineFacts(
    vllm_version="0.32.0",
    kv_layout=LAYOUT.to_proto(),
    capacity=worker_pb2.Capacity(num_kv_blocks=100, max_model_len=512),
    transfer_addresses=(b"here",),
)


@dataclass(frozen=True, slots=True)
class ScriptedStep:
    """`ended` are the engine ids whose last output this is."""

    engine_ids: tuple[str, ...] = ()
    ended: frozenset[str] = frozenset()
    load: Load | None = None
    num_bytes: int = 0

    def outputs(self) -> Iterable[tuple[str, bool]]:
        return [(engine_id, engine_id in self.ended) for engine_id in self.engine_ids]

    def encode(self, names: Mapping[str, str]) -> Sequence[bytes]:
        """One frame per request: its id, padded to `num_bytes`."""
        return [names[each].encode().ljust(self.num_bytes) for each in names]


class ScriptedEngine:
    """See `worker.interface.Engine`. `changed` is set at each call of a gateway's.

    Reports block until `idle` is set. A request whose frame is b"bad" is refused, and a ticket
    that comes with the frame b"another prompt".
    """

    def __init__(self, facts: EngineFacts = FACTS) -> None:
        self.facts = facts
        self.orders: dict[str, Order] = {}
        self.aborted: list[str] = []
        self.revoked: list[tuple[bytes, str]] = []
        self.introduced: list[tuple[bytes, ...]] = []
        self.parted: list[tuple[bytes, ...]] = []
        self.num_reports = 0
        self.load = Load(num_kv_blocks=100)
        self.idle = asyncio.Event()
        self.idle.set()
        self.changed = asyncio.Event()
        self.changes: asyncio.Queue[BlockChange] = asyncio.Queue()
        self.held: set[int] = set()
        self._steps: asyncio.Queue[ScriptedStep | EngineLost] = asyncio.Queue()
        self._lost: EngineLost | None = None

    async def submit(self, order: Order) -> None:
        self._check_alive()
        if order.frames == (b"bad",):
            raise BadRequest("the request cannot be decoded")
        if order.ticket and order.frames == (b"another prompt",):
            raise ForeignPrompt
        self.orders[order.engine_id] = order
        self.changed.set()

    async def abort(self, engine_ids: Sequence[str]) -> None:
        self.aborted.extend(engine_ids)
        self.changed.set()

    async def revoke(self, ticket_id: bytes, reason: str) -> bool:
        self._check_alive()
        self.revoked.append((ticket_id, reason))
        self.changed.set()
        return True

    async def introduce(self, addresses: Sequence[bytes]) -> None:
        self._check_alive()
        self.introduced.append(tuple(addresses))
        self.changed.set()

    async def part(self, addresses: Sequence[bytes]) -> None:
        self._check_alive()
        self.parted.append(tuple(addresses))
        self.changed.set()

    async def steps(self) -> AsyncIterator[ScriptedStep]:
        while True:
            step = await self._steps.get()
            if isinstance(step, EngineLost):
                raise step
            yield step

    async def block_changes(self) -> AsyncIterator[Sequence[BlockChange]]:
        while True:
            yield [await self.changes.get()]

    async def held_blocks(self) -> Sequence[int]:
        self._check_alive()
        return sorted(self.held)

    async def report(self) -> Load:
        self._check_alive()
        await self.idle.wait()
        self.num_reports += 1
        self.changed.set()
        return self.load

    def step(self, *engine_ids: str, ended: Iterable[str] = (), load: Load | None = None) -> None:
        """One engine step with an output for each of these."""
        self._steps.put_nowait(ScriptedStep(engine_ids, frozenset(ended), load))

    def die(self) -> None:
        self._lost = EngineLost("OutOfMemory")
        self._steps.put_nowait(self._lost)

    def id_of(self, request_id: str) -> str:
        """The engine id of the last request that was submitted under this id."""
        return next(each for each in reversed(self.orders) if each.endswith(f"-{request_id}"))

    async def until(self, holds: object) -> None:
        """Returns as soon as `holds()` is true; it is looked at after every call."""
        assert callable(holds)
        async with asyncio.timeout(5):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def _check_alive(self) -> None:
        if self._lost:
            raise self._lost
