"""Prompts as token ids, made from the spans' keys: the same key always gives the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loadtest.replay.trace import Span, TraceRequest

# Ordinary tokens in about every vocabulary; the first are often special.
VOCABULARY = range(1_000, 40_000)
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
NUM_TEXTS = 1 << 15

Tokens = NDArray[np.uint32]


class PromptMaker:
    """Another `seed` gives every key other tokens, so that a warm cache knows none of them.

    `answers` are those of the request's session so far, by turn; one that is missing is replaced
    by tokens of its span's key.
    """

    def __init__(self, vocabulary: range = VOCABULARY, seed: int = 0) -> None:
        self._first = vocabulary.start
        self._size = len(vocabulary)
        self._salt = splitmix(seed)
        self._text = lru_cache(NUM_TEXTS)(self._make_text)

    def tokens(self, request: TraceRequest, answers: Sequence[Sequence[int]] = ()) -> Tokens:
        spans = (self._span_tokens(span, answers) for span in request.prompt)
        return np.concatenate(list(spans)).astype(np.uint32)

    def text(self, request: TraceRequest, answers: Sequence[Sequence[int]] = ()) -> str:
        """The same tokens as a JSON list."""
        return f"[{','.join(self._span_text(span, answers) for span in request.prompt)}]"

    def span_tokens(self, span: Span) -> Tokens:
        """By its key alone. The generator is SplitMix64 (Steele, Lea and Flood 2014)."""
        start = splitmix((span.key ^ self._salt) & MASK)
        state = np.arange(1, span.num_tokens + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        state += np.uint64(start)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
        return (state % np.uint64(self._size)).astype(np.uint32) + np.uint32(self._first)

    def _span_tokens(self, span: Span, answers: Sequence[Sequence[int]]) -> Tokens:
        answer = answer_for(span, answers)
        return self.span_tokens(span) if answer is None else np.array(answer, np.uint32)

    def _span_text(self, span: Span, answers: Sequence[Sequence[int]]) -> str:
        answer = answer_for(span, answers)
        return self._text(span) if answer is None else ",".join(map(str, answer))

    def _make_text(self, span: Span) -> str:
        return ",".join(map(str, self.span_tokens(span).tolist()))


def answer_for(span: Span, answers: Sequence[Sequence[int]]) -> Sequence[int] | None:
    """What stands in the span's place; None if nothing does."""
    if span.turn is None or span.turn >= len(answers) or not answers[span.turn]:
        return None
    return answers[span.turn][: span.num_tokens]


def splitmix(value: int) -> int:
    """One step of SplitMix64."""
    value = (value + GOLDEN) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
