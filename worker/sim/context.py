"""The KV of one request: its blocks, and how far they are filled."""

from __future__ import annotations

import numpy as np

from worker.sim.blocks import BlockPool
from worker.sim.digest import START, Tokens, absorb, absorb_one, spoil


class Context:
    """`blocks`, held in `pool`, have KV of the first `num_tokens` tokens."""

    __slots__ = ("_epoch", "_start", "blocks", "num_tokens", "pool")

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.blocks: list[int] = []
        self.num_tokens = 0
        self._start = START
        self._epoch = -1

    @property
    def room(self) -> int:
        """Tokens that its blocks can take."""
        return len(self.blocks) * self.pool.block_size

    def digest(self) -> int:
        """Of all KV in it, as it is now."""
        num_blocks = -(-self.num_tokens // self.pool.block_size)
        return self.pool.digest(self.blocks[:num_blocks])

    def compute(self, tokens: Tokens) -> int:
        """KV of the next tokens, out of what is there. The digest then."""
        pool, value, done = self.pool, self.digest(), 0
        while done < len(tokens):
            index, within = divmod(self.num_tokens, pool.block_size)
            part = tokens[done : done + pool.block_size - within]
            block = self.blocks[index]
            before = pool.contents[block][0] if within else value
            value = absorb(value, part)
            pool.write(block, (before, value))
            done += len(part)
            self.num_tokens += len(part)
        return value

    def append(self, token: int) -> int:
        """The same for one token, as often as there are tokens: quick."""
        pool = self.pool
        index, within = divmod(self.num_tokens, pool.block_size)
        block = self.blocks[index]
        if not within:
            self._start = before = value = pool.digest(self.blocks[:index])
            self._epoch = pool.epoch
        else:
            if self._epoch != pool.epoch:
                self._start = pool.digest(self.blocks[:index])
                self._epoch = pool.epoch
            before, value = pool.contents[block]
            if before != self._start:
                value = spoil(self._start, value)
        value = absorb_one(value, token)
        pool.contents[block] = (before, value)
        self.num_tokens += 1
        return value

    def clear(self) -> None:
        """Holds nothing any more."""
        self.pool.release(self.blocks)
        self.blocks, self.num_tokens = [], 0
        self._epoch = -1


def as_tokens(tokens: object) -> Tokens:
    """Of an array of unsigned 64-bit integers, without copying; it must not grow meanwhile."""
    return np.frombuffer(tokens, dtype=np.uint64)  # type: ignore[call-overload, no-any-return]
