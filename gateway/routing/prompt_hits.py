"""The fleet's index of prefixes, as the dispatcher asks it: in tokens, by rows of the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fleet.prefix_index import PrefixIndex
from fleet.tier import BlockKeys
from gateway.routing.columns import Floats
from gateway.routing.fleet_table import FleetTable


class PromptHits:
    """Workers may differ in their block size: a prompt has keys for each that there is."""

    def __init__(self, index: PrefixIndex, table: FleetTable) -> None:
        self._index = index
        self._table = table

    def of(self, keys: Mapping[int, BlockKeys]) -> tuple[Floats, Floats]:
        """Tokens from the prompt's first: on each row's device, and on any of its tiers."""
        table = self._table
        cached, below = np.zeros(len(table.keys)), np.zeros(len(table.keys))
        for size, blocks in keys.items():
            on_device, anywhere = self._index.hits(blocks, table.keys)
            has_size = table.columns.block_size == size
            cached += has_size * on_device * size
            below += has_size * anywhere * size
        return cached, below

    def held_tokens(self, worker: str, keys: Mapping[int, BlockKeys]) -> int:
        """Tokens from the prompt's first that are on this worker's device by now: no guesses."""
        size = self._block_size(worker)
        return size * self._index.held_from_first(worker, keys[size]) if size in keys else 0

    def expect(
        self, request_id: str, workers: Iterable[str], keys: Mapping[int, BlockKeys]
    ) -> None:
        """The request with this prompt is sent to these, and to no others."""
        sizes = {worker: self._block_size(worker) for worker in workers}
        blocks = {worker: keys[size] for worker, size in sizes.items() if size in keys}
        self._index.expect(request_id, blocks)

    def settle(self, request_id: str) -> None:
        """Its prompt's blocks are there, or will not come."""
        self._index.settle(request_id)

    def _block_size(self, worker: str) -> int:
        """0 if it is not in the table."""
        row = self._table.rows.get(worker)
        return int(self._table.columns.block_size[row]) if row is not None else 0
