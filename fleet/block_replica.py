"""What this gateway knows of the blocks that every worker holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fleet.block_news import Batch, Cleared, Snapshot, Stored, unpack
from fleet.block_table import BlockTable, Match
from fleet.tier import BlockKeys, Tier

MAX_EARLY = 1024
# Rows that wait to be emptied.
MAX_LEAVING = 1 << 12


@dataclass(slots=True)
class _Told:
    """What one worker has said so far. `early` are batches that came after a gap.

    `is_doubtful`: there may be a gap that no batch has shown yet.
    """

    row: int
    number: int = -1
    early: dict[int, Batch] = field(default_factory=dict)
    is_doubtful: bool = True


class BlockReplica:
    """Pure. Follows each worker's batches from a snapshot of it; what is not whole is not known.

    `generation` grows whenever `rows` changes. A worker has a row of the table. One that starts
    anew, from a snapshot, after it has left or because it holds nothing any more, gets another row,
    and the old one is emptied bit by bit by `clean`.
    """

    def __init__(self) -> None:
        self._table = BlockTable()
        self._told: dict[str, _Told] = {}
        self._free: list[int] = []
        self._next_row = 0
        self._leaving: deque[tuple[int, Iterator[None]]] = deque()
        self.generation = 0

    @property
    def table(self) -> BlockTable:
        """For its figures."""
        return self._table

    @property
    def rows(self) -> Mapping[str, int]:
        """Each worker's place in a `Match`."""
        return {worker: told.row for worker, told in self._told.items()}

    def row_of(self, worker: str) -> int | None:
        """None if it is not in the fleet."""
        told = self._told.get(worker)
        return told.row if told else None

    def match(self, keys: BlockKeys) -> Match:
        """See `BlockTable`; `rows` says whose is whose."""
        return self._table.match(keys)

    def held(self, worker: str, tier: Tier) -> BlockKeys:
        """What is known of one worker, in no order."""
        told = self._told.get(worker)
        return self._table.held(told.row, tier) if told else np.zeros(0, np.uint64)

    def is_whole(self, worker: str) -> bool:
        """False until a snapshot of it has been learned, and after a gap in its batches."""
        told = self._told.get(worker)
        return told is not None and not told.is_doubtful and not told.early

    def meet(self, worker: str) -> None:
        """It is in the fleet: a snapshot of it is wanted."""
        if worker not in self._told:
            self._told[worker] = _Told(self._new_row())
            self.generation += 1

    def part(self, worker: str) -> None:
        """It has left the fleet: it holds nothing."""
        if told := self._told.pop(worker, None):
            self._empty(told.row)
            self.generation += 1

    def doubt(self, worker: str) -> None:
        """Something may have been missed: a snapshot of it is wanted."""
        if told := self._told.get(worker):
            told.is_doubtful = True

    def learn(self, snapshot: Snapshot) -> None:
        """Changes nothing if later news of it are known, or if it is not in the fleet."""
        told = self._told.get(snapshot.worker)
        if told is None or snapshot.number < told.number:
            return
        told.is_doubtful = False
        if snapshot.number == told.number:
            return
        if told.number >= 0:
            self._replace_row(told)
        for tier, keys in snapshot.tiers.items():
            self._table.add(told.row, Tier(tier), unpack(keys))
        told.number = snapshot.number
        told.early = {n: batch for n, batch in told.early.items() if n > told.number}
        self._catch_up(told)

    def hear(self, batch: Batch) -> bool:
        """False if a snapshot of the worker is wanted, because something before it is missing."""
        told = self._told.get(batch.worker)
        if told is None or batch.number <= told.number:
            return True
        told.early[batch.number] = batch
        if len(told.early) > MAX_EARLY:
            del told.early[min(told.early)]
        self._catch_up(told)
        return self.is_whole(batch.worker)

    def clean(self) -> bool:
        """A step of emptying rows that nobody has. False if there is nothing to do."""
        if not self._leaving:
            return False
        row, steps = self._leaving[0]
        if next(steps, self) is self:
            self._leaving.popleft()
            self._free.append(row)
        return True

    def _catch_up(self, told: _Told) -> None:
        while told.number >= 0 and (batch := told.early.pop(told.number + 1, None)):
            self._apply(told, batch)

    def _apply(self, told: _Told, batch: Batch) -> None:
        for news in batch.news:
            tier = Tier(news.tier)
            if isinstance(news, Stored):
                self._table.add(told.row, tier, unpack(news.keys))
            elif isinstance(news, Cleared):
                self._clear(told, tier)
            else:
                self._table.remove(told.row, tier, unpack(news.keys))
        told.number = batch.number
        told.is_doubtful = False

    def _clear(self, told: _Told, tier: Tier) -> None:
        """With blocks on other tiers the worker keeps its row, for one look at the whole table."""
        held = {each for each in Tier if self._table.num_held(told.row, each)}
        if held == {tier} and len(self._leaving) < MAX_LEAVING:
            self._replace_row(told)
        elif tier in held:
            self._table.remove(told.row, tier, self._table.held(told.row, tier))

    def _replace_row(self, told: _Told) -> None:
        self._empty(told.row)
        told.row = self._new_row()
        self.generation += 1

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        self._next_row += 1
        return self._next_row - 1

    def _empty(self, row: int) -> None:
        self._leaving.append((row, self._purges(row)))

    def _purges(self, row: int) -> Iterator[None]:
        for tier in Tier:
            yield from self._table.purge(row, tier)
