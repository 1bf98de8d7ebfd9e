"""Which blocks a folder holds, and which it gives up for others."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """`evicted` are deleted first; then there is room to write `stored`."""

    stored: tuple[bytes, ...] = ()
    evicted: tuple[bytes, ...] = ()


class FolderLedger:
    """At most `capacity` blocks, named by key; the least recently used go first.

    Pure and synchronous. What is being written is not there yet, what is being deleted is
    neither there nor written again, and what is being read stays.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ready: OrderedDict[bytes, None] = OrderedDict()
        self._writing: set[bytes] = set()
        self._deleting: set[bytes] = set()
        self._reading: Counter[bytes] = Counter()

    def __len__(self) -> int:
        """Blocks that are there."""
        return len(self._ready)

    def __contains__(self, key: bytes) -> bool:
        return key in self._ready

    def touch(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            if key in self._ready:
                self._ready.move_to_end(key)

    def store(self, keys: Sequence[bytes]) -> Exchange:
        """What of `keys` to write, the first ones if not all have room, and what to delete."""
        self.touch(keys)
        wanted = [key for key in dict.fromkeys(keys) if not self._knows(key)]
        free = self._capacity - len(self._ready) - len(self._writing)
        evicted = self._oldest(len(wanted) - free, spared=set(keys))
        stored = wanted[: free + len(evicted)]
        for key in evicted:
            del self._ready[key]
        self._deleting.update(evicted)
        self._writing.update(stored)
        return Exchange(tuple(stored), tuple(evicted))

    def exchanged(self, exchange: Exchange, is_written: bool) -> None:
        """The exchange is over. What was deleted is gone either way."""
        self._deleting.difference_update(exchange.evicted)
        self._writing.difference_update(exchange.stored)
        if is_written:
            self._ready.update(dict.fromkeys(exchange.stored))

    def read(self, keys: Iterable[bytes]) -> None:
        self._reading.update(keys)

    def was_read(self, keys: Iterable[bytes]) -> None:
        self._reading.subtract(keys)
        self._reading += Counter()

    def lose(self, key: bytes) -> bool:
        """It turned out not to be there. False if that was known."""
        if key not in self._ready:
            return False
        del self._ready[key]
        return True

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other or do not fit."""
        ready = self._ready.keys()
        assert ready.isdisjoint(self._writing) and ready.isdisjoint(self._deleting), self
        assert self._writing.isdisjoint(self._deleting), self
        assert len(ready) + len(self._writing) <= self._capacity, self
        assert all(number > 0 for number in self._reading.values()), self

    def _knows(self, key: bytes) -> bool:
        return key in self._ready or key in self._writing or key in self._deleting

    def _oldest(self, number: int, spared: set[bytes]) -> list[bytes]:
        evicted: list[bytes] = []
        for key in self._ready:
            if len(evicted) >= number:
                break
            if key not in spared and not self._reading[key]:
                evicted.append(key)
        return evicted

    def __repr__(self) -> str:
        return (
            f"<FolderLedger: {len(self._ready)} of {self._capacity}, "
            f"{len(self._writing)} being written, {len(self._deleting)} being deleted>"
        )
