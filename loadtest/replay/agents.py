"""Agent traffic: many requests share a few long system prompts and add little of their own."""

from __future__ import annotations

import random
from dataclasses import dataclass

from loadtest.replay.trace import Span, TraceRequest, key_of


@dataclass(frozen=True, slots=True)
class Agents:
    """The k-th of `prompts` system prompts is wanted in proportion to k ** -`skew` (Zipf).

    Each request adds 1 to `fresh` blocks of `block` tokens, and arrives at `rate` a second
    (Poisson).
    """

    requests: int = 1000
    prompts: int = 8
    system: int = 4096
    fresh: int = 3
    block: int = 128
    output: int = 16
    rate: float = 10.0
    skew: float = 1.0

    def make(self, seed: int) -> list[TraceRequest]:
        draw = random.Random(seed)
        weights = [(k + 1) ** -self.skew for k in range(self.prompts)]
        chosen = draw.choices(range(self.prompts), weights, k=self.requests)
        made: list[TraceRequest] = []
        now = 0.0
        for number, prompt in enumerate(chosen):
            now += draw.expovariate(self.rate)
            fresh = draw.randint(1, self.fresh) * self.block
            spans = (
                Span(key_of("agent", prompt), self.system),
                Span(key_of("task", number), fresh),
            )
            made.append(TraceRequest(now, spans, self.output))
        return made
