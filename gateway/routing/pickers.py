"""Who is taken of those that may be, by their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.routing.columns import Floats
from gateway.routing.fleet_table import FleetTable

EQUAL_SCORES = 1e-6

Rows = NDArray[np.intp]


class Picker(Protocol):
    def pick(self, rows: Rows, scores: Floats, table: FleetTable) -> int:
        """One of `rows`, of which there is one at least; `scores` are theirs."""


class Best:
    """The best; of equals those with the least to do, one after the other."""

    def __init__(self) -> None:
        self._numbers = count()

    def pick(self, rows: Rows, scores: Floats, table: FleetTable) -> int:
        equals = rows[scores >= scores.max() - EQUAL_SCORES]
        if len(equals) == 1:
            return int(equals[0])
        columns = table.columns
        weights = columns.prefill_tokens[equals] + columns.num_legs[equals]
        idlest = equals[weights == weights.min()]
        return int(idlest[next(self._numbers) % len(idlest)])


class RoundRobin:
    """One after the other, whatever their scores."""

    def __init__(self) -> None:
        self._numbers = count()

    def pick(self, rows: Rows, scores: Floats, table: FleetTable) -> int:
        return int(rows[next(self._numbers) % len(rows)])


class Lottery:
    """By chance, the better ones more often: in proportion to the square of their scores."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def pick(self, rows: Rows, scores: Floats, table: FleetTable) -> int:
        weights = np.square(np.maximum(scores, 1e-9))
        return int(self._random.choice(rows, p=weights / weights.sum()))


PICKERS: Mapping[str, Callable[[], Picker]] = MappingProxyType(
    {"best": Best, "round-robin": RoundRobin, "lottery": Lottery}
)
