"""How much of a trace is replayed: fewer requests, shorter prompts, faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.replay.trace import Span, TraceRequest


@dataclass(frozen=True, slots=True)
class Shape:
    """`scale` divides lengths, `speed` divides times. `seconds` counts after that. What goes
    beyond `max_tokens`, prompt and answer together, is cut from the prompt's end.
    """

    scale: float = 1.0
    speed: float = 1.0
    num_requests: int | None = None
    seconds: float | None = None
    max_tokens: int | None = None

    def apply(self, requests: Sequence[TraceRequest]) -> list[TraceRequest]:
        """In the order of their times, the first at 0."""
        ordered = sorted(requests, key=lambda request: request.at_seconds)[: self.num_requests]
        start = ordered[0].at_seconds if ordered else 0.0
        shaped = (self._shaped(request, start) for request in ordered)
        return [each for each in shaped if self.seconds is None or each.at_seconds <= self.seconds]

    def _shaped(self, request: TraceRequest, start: float) -> TraceRequest:
        num_output_tokens = self._scaled(request.num_output_tokens)
        prompt = tuple(
            replace(span, num_tokens=self._scaled(span.num_tokens)) for span in request.prompt
        )
        if self.max_tokens is not None:
            num_output_tokens = min(num_output_tokens, self.max_tokens // 2)
            prompt = cut(prompt, self.max_tokens - num_output_tokens)
        return replace(
            request,
            at_seconds=(request.at_seconds - start) / self.speed,
            prompt=prompt,
            num_output_tokens=num_output_tokens,
            think_seconds=request.think_seconds / self.speed,
        )

    def _scaled(self, num_tokens: int) -> int:
        return math.ceil(num_tokens / self.scale)


def cut(prompt: tuple[Span, ...], num_tokens: int) -> tuple[Span, ...]:
    """The prompt's head of at most so many tokens."""
    kept: list[Span] = []
    for span in prompt:
        if num_tokens <= 0:
            break
        kept.append(replace(span, num_tokens=min(span.num_tokens, num_tokens)))
        num_tokens -= span.num_tokens
    return tuple(kept)
