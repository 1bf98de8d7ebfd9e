"""Tells the fleet which KV blocks an engine holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

from fleet.block_log import BlockLog
from fleet.block_reporter import BlockReporter
from fleet.contact import Contact
from fleet.held_blocks import HeldBlocks
from worker.block_change import BlockChange, Kind
from worker.interface import Engine


class BlockTeller:
    """Follows the engine's prefix cache while `run` runs. `worker`: "worker_id/incarnation"."""

    def __init__(
        self, engine: Engine, log: BlockLog, worker: str, contact: Contact | None = None
    ) -> None:
        self._engine = engine
        self._held = HeldBlocks(worker)
        self._reporter = BlockReporter(log, self._held, contact=contact)

    async def run(self) -> NoReturn:
        """Endless."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reporter.run())
            async for changes in self._engine.block_changes():
                self._note(changes)
        raise AssertionError("an engine does not stop telling of its blocks")

    def _note(self, changes: Sequence[BlockChange]) -> None:
        for change in changes:
            match change.kind:
                case Kind.STORED:
                    self._held.store(change.tier, change.keys)
                case Kind.REMOVED:
                    self._held.remove(change.tier, change.keys)
                case Kind.CLEARED:
                    self._held.clear(change.tier)
        self._reporter.note()

    def __repr__(self) -> str:
        return f"<BlockTeller of {self._held.worker}: {len(self._held)} blocks>"
