"""Which tokens a simulated engine answers with: a function of the KV that it holds."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from worker.sim.digest import MASK, START, absorb, absorb_one

SPREAD = 0xBF58476D1CE4E5B9


@dataclass(frozen=True, slots=True)
class TokenRange:
    """The token ids that answers are made of."""

    first: int
    count: int

    def pick(self, digest: int) -> int:
        """The token that follows the context with that digest."""
        return self.first + (((digest * SPREAD) & MASK) >> 32) % self.count


def expected_tokens(prompt: Iterable[int], num_tokens: int, tokens: TokenRange) -> list[int]:
    """What follows `prompt` if no KV was lost, repeated or mixed up on the way."""
    digest = absorb(START, np.frombuffer(array("Q", prompt), dtype=np.uint64))
    answer: list[int] = []
    for _ in range(num_tokens):
        answer.append(tokens.pick(digest))
        digest = absorb_one(digest, answer[-1])
    return answer
