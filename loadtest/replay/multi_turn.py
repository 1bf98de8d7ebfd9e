"""Conversations: each turn's prompt holds all before it, the answers included."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.replay.trace import Span, TraceRequest, key_of


@dataclass(frozen=True, slots=True)
class MultiTurn:
    """`groups` of sessions share a system prompt of `system` tokens. `user` and `answer` are mean
    lengths; each is drawn from half to one and a half of it. Sessions begin at `rate` a second,
    and users think for `think` seconds, both at random (exponential).
    """

    sessions: int = 50
    turns: int = 10
    groups: int = 5
    system: int = 1024
    user: int = 128
    answer: int = 128
    think: float = 10.0
    rate: float = 1.0

    def make(self, seed: int) -> list[TraceRequest]:
        draw = random.Random(seed)
        starts = [draw.expovariate(self.rate) for _ in range(self.sessions)]
        made: list[TraceRequest] = []
        begun = 0.0
        for session, gap in enumerate(starts):
            begun += gap
            made += self._turns(draw, session, begun)
        return made

    def _turns(self, draw: random.Random, session: int, begun: float) -> Iterator[TraceRequest]:
        """Their times leave out what the answers take."""
        prompt = [Span(key_of("system", session % self.groups), self.system)]
        at_seconds = begun
        for turn in range(self.turns):
            think_seconds = draw.expovariate(1 / self.think) if turn and self.think else 0.0
            at_seconds += think_seconds
            prompt.append(Span(key_of("user", session, turn), around(draw, self.user)))
            num_output_tokens = around(draw, self.answer)
            yield TraceRequest(
                at_seconds, tuple(prompt), num_output_tokens, f"session-{session}", think_seconds
            )
            prompt.append(Span(key_of("answer", session, turn), num_output_tokens, turn))


def around(draw: random.Random, mean: int) -> int:
    return draw.randint(max(1, mean // 2), max(1, mean + mean // 2))
