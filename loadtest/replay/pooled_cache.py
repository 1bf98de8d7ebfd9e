"""The reference: one prefix cache for the whole fleet, with LRU eviction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

from loadtest.replay.prompt_maker import PromptMaker, Tokens
from loadtest.replay.trace import TraceRequest


class PooledCache:
    """Holds prefixes of prompts in blocks; a key names a block and all before it.

    Of the blocks of one prompt the last goes first, as in vLLM. `num_blocks` None is no bound.
    """

    def __init__(self, num_blocks: int | None = None) -> None:
        self._num_blocks = num_blocks
        self._keys: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, keys: Sequence[int]) -> int:
        """How many of the first blocks are held; after it, all of them are, if there is room."""
        num_held = self._num_held(keys)
        for key in reversed(keys[: self._num_blocks]):
            self._keys[key] = None
            self._keys.move_to_end(key)
        while self._num_blocks is not None and len(self._keys) > self._num_blocks:
            self._keys.popitem(last=False)
        return num_held

    def _num_held(self, keys: Sequence[int]) -> int:
        for number, key in enumerate(keys):
            if key not in self._keys:
                return number
        return len(keys)


def block_keys(tokens: Tokens, block_tokens: int) -> list[int]:
    """One for each full block."""
    hasher = xxhash.xxh3_64()
    keys: list[int] = []
    for end in range(block_tokens, len(tokens) + 1, block_tokens):
        hasher.update(tokens[end - block_tokens : end].tobytes())
        keys.append(hasher.intdigest())
    return keys


@dataclass(frozen=True, slots=True)
class PooledHits:
    """Of all prompts' tokens, the share that a cache held: one with a bound, one without."""

    num_blocks: int | None
    block_tokens: int
    bounded: float | None
    unbounded: float


def pooled_hits(
    requests: Iterable[TraceRequest],
    maker: PromptMaker,
    num_blocks: int | None,
    block_tokens: int,
) -> PooledHits:
    """Of prompts alone, in the order of `requests`. The last token of a prompt is never a hit,
    because its logits are wanted. Answers in prompts are those of their spans' keys.
    """
    bounded, unbounded = PooledCache(num_blocks), PooledCache()
    num_tokens = num_bounded = num_unbounded = 0
    for request in requests:
        tokens = maker.tokens(request)
        keys = block_keys(tokens, block_tokens)
        most = (len(tokens) - 1) // block_tokens
        num_tokens += len(tokens)
        num_unbounded += min(most, unbounded.take(keys)) * block_tokens
        if num_blocks is not None:
            num_bounded += min(most, bounded.take(keys)) * block_tokens
    total = max(1, num_tokens)
    share = num_bounded / total if num_blocks is not None else None
    return PooledHits(num_blocks, block_tokens, share, num_unbounded / total)
