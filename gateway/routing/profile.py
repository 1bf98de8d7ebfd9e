"""How one of a request's workers is found: filters, then weighted scorers, then a picker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gateway.routing.columns import Flags, Floats
from gateway.routing.filters import FILTERS, Filter
from gateway.routing.pickers import PICKERS, Picker
from gateway.routing.policy import ProfilePolicy
from gateway.routing.scene import Scene
from gateway.routing.scorers import SCORERS, Scorer

MAX_EXPLAINED = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """`row` of the worker that was taken, and why: its own score and that of the next best, by
    scorer; `num_candidates` were left by the filters.
    """

    row: int
    num_candidates: int
    rows: tuple[int, ...] = field(repr=False)
    totals: tuple[float, ...] = field(repr=False)
    by_scorer: Mapping[str, tuple[float, ...]] = field(repr=False)


class Profile:
    """Built from a ProfilePolicy."""

    def __init__(self, policy: ProfilePolicy) -> None:
        self._filters: dict[str, Filter] = {name: FILTERS[name] for name in policy.filters}
        self._scorers: dict[str, tuple[Scorer, float]] = {
            name: (SCORERS[name], weight) for name, weight in policy.scorers.items()
        }
        self._picker: Picker = PICKERS[policy.picker]()

    def passes(self, scene: Scene) -> Flags:
        """Whom the filters leave."""
        flags = np.ones(len(scene.table.keys), bool)
        for keeps in self._filters.values():
            flags &= keeps(scene)
        return flags

    def choose(self, scene: Scene, may: Flags) -> Choice | None:
        """Of the rows that `may`; None if none is left."""
        rows = np.flatnonzero(may & self.passes(scene))
        if not len(rows):
            return None
        total = np.zeros(len(rows))
        parts: dict[str, Floats] = {}
        for name, (scorer, weight) in self._scorers.items():
            parts[name] = weight * scorer(scene, rows)
            total += parts[name]
        row = self._picker.pick(rows, total, scene.table)
        return explained(row, rows, total, parts)


def explained(
    row: int,
    rows: np.ndarray[tuple[int], np.dtype[np.intp]],
    total: Floats,
    parts: Mapping[str, Floats],
) -> Choice:
    shown = np.argsort(-total)[:MAX_EXPLAINED] if len(rows) > 1 else np.zeros(1, int)
    if row not in rows[shown]:
        shown = np.append(shown, np.flatnonzero(rows == row))
    return Choice(
        row,
        len(rows),
        tuple(rows[shown].tolist()),
        tuple(total[shown].tolist()),
        {name: tuple(part[shown].tolist()) for name, part in parts.items()},
    )
