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
from fleet.tier import Tier

MAX_UNTOLD = 1 << 16


class HeldBlocks:
    """Pure. Block keys are 64-bit numbers; 0 is none, and what is stored under it is left out.

    News that nobody takes are given up at a bound; then only a new beginning tells the truth.
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.number = 0
        self.has_given_up = False
        self._held: dict[Tier, set[int]] = {}
        self._news: list[News] = []

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def store(self, tier: Tier, keys: Iterable[int]) -> None:
        held = self._held.setdefault(tier, set())
        new = [key for key in dict.fromkeys(keys) if key and key not in held]
        held.update(new)
        self._note(Stored(tier, pack(part)) for part in parts(new))

    def remove(self, tier: Tier, keys: Iterable[int]) -> None:
        held = self._held.setdefault(tier, set())
        gone = [key for key in dict.fromkeys(keys) if key in held]
        held.difference_update(gone)
        self._note(Removed(tier, pack(part)) for part in parts(gone))

    def clear(self, tier: Tier) -> None:
        if self._held.pop(tier, None):
            self._note([Cleared(tier)])

    def take_batch(self) -> Batch | None:
        """The oldest news, if there are any."""
        if not self._news:
            return None
        news, self._news = self._news[:MAX_NEWS], self._news[MAX_NEWS:]
        self.number += 1
        return Batch(self.worker, self.number, tuple(news))

    def snapshot(self) -> Snapshot:
        """All that is held. News that are in it already do no harm when they follow."""
        tiers: dict[int, bytes] = {tier: pack(held) for tier, held in self._held.items()}
        return Snapshot(self.worker, self.number, tiers)

    def begin_again(self) -> tuple[Snapshot, Batch]:
        """In the place of all news: a snapshot under a number that no batch has, and a batch that
        makes those who follow ask for it.
        """
        self._news.clear()
        self.has_given_up = False
        self.number += 1
        snapshot = self.snapshot()
        self.number += 1
        return snapshot, Batch(self.worker, self.number, ())

    def _note(self, news: Iterable[News]) -> None:
        if self.has_given_up:
            return
        self._news += news
        if len(self._news) > MAX_UNTOLD:
            self._news.clear()
            self.has_given_up = True


def parts(keys: Iterable[int]) -> Iterator[Sequence[int]]:
    """Of up to MAX_KEYS."""
    rest = iter(keys)
    while part := tuple(islice(rest, MAX_KEYS)):
        yield part
