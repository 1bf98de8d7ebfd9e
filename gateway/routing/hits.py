"""What the dispatcher asks of the fleet's index of prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from fleet.tier import BlockKeys
from gateway.routing.columns import Floats
from gateway.routing.fleet_table import FleetTable


class Hits(Protocol):
    """The fleet's index: in tokens from a prompt's first, whose `keys` are by block size."""

    def of(self, keys: Mapping[int, BlockKeys]) -> tuple[Floats, Floats]:
        """Of each row: on its device or expected there, and on any tier."""

    def held_tokens(self, worker: str, keys: Mapping[int, BlockKeys]) -> int:
        """On that worker's device by now."""

    def expect(
        self, request_id: str, workers: Iterable[str], keys: Mapping[int, BlockKeys]
    ) -> None:
        """The request with this prompt is sent to these, and to no others."""

    def settle(self, request_id: str) -> None:
        """Its prompt's blocks are there, or will not come."""


class NoHits:
    """Nothing is known of caches."""

    def __init__(self, table: FleetTable) -> None:
        self._table = table

    def of(self, keys: Mapping[int, BlockKeys]) -> tuple[Floats, Floats]:
        return np.zeros(len(self._table.keys)), np.zeros(len(self._table.keys))

    def held_tokens(self, worker: str, keys: Mapping[int, BlockKeys]) -> int:
        return 0

    def expect(
        self, request_id: str, workers: Iterable[str], keys: Mapping[int, BlockKeys]
    ) -> None: ...

    def settle(self, request_id: str) -> None: ...
