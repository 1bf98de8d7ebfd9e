"""A paged KV cache: what each block holds, who holds it, and what may be given away."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from worker.block_change import Kind
from worker.sim.digest import START, spoil

# The digests that a block's KV was computed on, and ends with.
Content = tuple[int, int]
NOTHING: Content = (0, 0)


class BlockPool:
    """Blocks with reference counts. A full one may be stored under a key; nobody's blocks are
    given away when blank ones run out, the longest unused first.

    A block keeps its content until something is written to it, as memory does. `epoch` tells
    of each write but those that append one token to their request's last block.
    `journal`: what was stored and removed, if anybody wants to know.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.contents: list[Content] = [NOTHING] * num_blocks
        self.epoch = 0
        self.journal: list[tuple[Kind, int]] | None = None
        self._holders = [0] * num_blocks
        self._keys: list[int | None] = [None] * num_blocks
        self._stored: dict[int, int] = {}
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        return len(self._blank) + len(self._idle)

    @property
    def num_held(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def keys(self) -> Sequence[int]:
        """Of all blocks that can be found."""
        return tuple(self._stored)

    def find(self, keys: Iterable[int]) -> list[int]:
        """The blocks of as many of the first keys as are there."""
        found = []
        for key in keys:
            block = self._stored.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def num_idle(self, blocks: Iterable[int]) -> int:
        """How many of these count as free."""
        return sum(not self._holders[block] for block in blocks)

    def hold(self, blocks: Iterable[int]) -> None:
        """Once more each."""
        for block in blocks:
            if not self._holders[block]:
                del self._idle[block]
            self._holders[block] += 1

    def allocate(self, count: int) -> list[int] | None:
        """Held once each; None if there are not so many."""
        if count > self.num_free:
            return None
        blocks = [self._blank.pop() if self._blank else self._evict() for _ in range(count)]
        for block in blocks:
            self._holders[block] = 1
        return blocks

    def release(self, blocks: Sequence[int]) -> None:
        """In the order of a request's tokens: its end is given away before its start."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if self._keys[block] is None:
                self._blank.append(block)
            else:
                self._idle[block] = None

    def store(self, block: int, key: int) -> None:
        """The block is full and can be found. Of two with the same key, the first one is."""
        if key in self._stored or self._keys[block] is not None:
            return
        self._stored[key] = block
        self._keys[block] = key
        if self.journal is not None:
            self.journal.append((Kind.STORED, key))

    def write(self, block: int, content: Content) -> None:
        self.contents[block] = content
        self.epoch += 1

    def digest(self, blocks: Iterable[int]) -> int:
        """Of the context that these hold; of no context at all if they do not belong together."""
        value = START
        for block in blocks:
            before, after = self.contents[block]
            value = after if before == value else spoil(value, after)
        return value

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """`tables`: the blocks of all who hold any. Raises AssertionError."""
        held = Counter(block for table in tables for block in table)
        assert all(held[block] == count for block, count in enumerate(self._holders)), self
        free = [*self._blank, *self._idle]
        assert len(free) == len(set(free)) == self.num_blocks - len(held), self
        assert not held.keys() & set(free), self
        assert all(self._keys[block] is None for block in self._blank), self
        assert all(self._keys[block] is not None for block in self._idle), self
        assert {key: block for block, key in enumerate(self._keys) if key is not None} == (
            self._stored
        ), self

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        key = self._keys[block]
        assert key is not None
        del self._stored[key]
        self._keys[block] = None
        if self.journal is not None:
            self.journal.append((Kind.REMOVED, key))
        return block

    def __repr__(self) -> str:
        return f"<BlockPool: {self.num_held} of {self.num_blocks} held, {len(self._stored)} stored>"
