"""A worker's own account of the blocks that it holds, and what is to be told about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from fleet.block_news import (
    MAX_KEYS,
    MAX_NEWS,
    Batch,
    Cleared,
    News,
    Removed,
    Snapshot,
    Stored,
    pack,
)
from fleet.block_table import Tier


class HeldBlocks:
    """Pure. Block keys are 64-bit numbers; 0 is none.

    What is stored and removed again before it was told is told nobody.
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.number = 0
        self._held: dict[Tier, set[int]] = {}
        self._news: list[News] = []

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    def store(self, tier: Tier, keys: Iterable[int]) -> None:
        held = self._held.setdefault(tier, set())
        new = [key for key in keys if key not in held]
        held.update(new)
        self._news += (Stored(tier, pack(part)) for part in parts(new))

    def remove(self, tier: Tier, keys: Iterable[int]) -> None:
        held = self._held.setdefault(tier, set())
        gone = [key for key in keys if key in held]
        held.difference_update(gone)
        self._news += (Removed(tier, pack(part)) for part in parts(gone))

    def clear(self, tier: Tier) -> None:
        if self._held.pop(tier, None):
            self._news.append(Cleared(tier))

    def take_batch(self) -> Batch | None:
        """The oldest news, if there are any."""
        if not self._news:
            return None
        news, self._news = self._news[:MAX_NEWS], self._news[MAX_NEWS:]
        self.number += 1
        return Batch(self.worker, self.number, tuple(news))

    def snapshot(self) -> Snapshot:
        """All that is held; it takes the place of what has not been told."""
        self._news = []
        return Snapshot(
            self.worker, self.number, {tier: pack(held) for tier, held in self._held.items()}
        )


def parts(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    """Of up to MAX_KEYS."""
    rest = iter(keys)
    while part := tuple(islice(rest, MAX_KEYS)):
        yield part
