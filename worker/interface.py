"""What a worker asks of an engine, whichever stands behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proto import worker_pb2
from worker.block_change import BlockChange
from worker.leg import Order
from worker.load import Load


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What does not change while the engine lives.

    `transfer_addresses`: where the KV transport of each rank is reached; `kv_connector`: whose.
    """

    vllm_version: str
    kv_layout: worker_pb2.KvLayout
    capacity: worker_pb2.Capacity
    transfer_addresses: tuple[bytes, ...]
    kv_connector: str = "baton"


class Step(Protocol):
    """What one engine step has brought."""

    @property
    def load(self) -> Load | None:
        """None if it has not changed."""

    def outputs(self) -> Iterable[tuple[str, bool]]:
        """Engine ids with an output, and whether it is the last for that id."""

    def encode(self, names: Mapping[str, str]) -> Sequence[bytes]:
        """vLLM's msgpack frames of EngineCoreOutputs with the outputs of the engine ids in
        `names`, under the request ids there. Each output may be encoded once.
        """


class Engine(Protocol):
    """A running engine core. Its owner starts and closes it.

    Every method but `abort` raises EngineLost once the engine has died. Engine ids are
    never used twice.
    """

    @property
    def facts(self) -> EngineFacts: ...

    async def submit(self, order: Order) -> None:
        """Start one leg. Nothing follows if it raises.

        Raises BadRequest if it cannot be run, ForeignPrompt if its ticket is for another prompt,
        ForeignTransfer if what the prefill leg said is not of the ticket's KV.
        """

    async def abort(self, engine_ids: Sequence[str]) -> None:
        """Free what these legs hold, at once. Ids that are not open are ignored.

        Outputs that were under way may still come; no last one follows.
        """

    async def revoke(self, ticket_id: bytes, reason: str) -> bool:
        """The KV of this ticket will not be moved. False if the ticket is not open here."""

    async def introduce(self, addresses: Sequence[bytes]) -> None:
        """KV will be fetched from the engine whose ranks are reached there: connect to it."""

    async def part(self, addresses: Sequence[bytes]) -> None:
        """That engine is lost: nothing more comes from it."""

    def steps(self) -> AsyncIterator[Step]:
        """Each step that has brought outputs or another load, in order. One reader only."""

    def block_changes(self) -> AsyncIterator[Sequence[BlockChange]]:
        """What changes in its prefix cache from now on, in order. One reader only."""

    async def held_blocks(self) -> Sequence[int]:
        """The keys of all blocks in the device's prefix cache now."""

    async def report(self) -> Load:
        """A fresh reading. Waits for the step under way."""
