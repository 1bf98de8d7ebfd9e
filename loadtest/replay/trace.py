"""What a trace consists of: requests with prompts made of spans."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens that are the same wherever `key` is; a shorter span is the head of a longer one.

    With `turn`, the answer to that turn of the session (0 is the first) stands there instead,
    once it is known.
    """

    key: int
    num_tokens: int
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """`at_seconds`: since the trace began. Requests of one `session` go one after another, each
    at least `think_seconds` after the answer before it; an empty session is none.
    """

    at_seconds: float
    prompt: tuple[Span, ...]
    num_output_tokens: int
    session: str = ""
    think_seconds: float = 0.0

    @property
    def num_prompt_tokens(self) -> int:
        return sum(span.num_tokens for span in self.prompt)


def key_of(*names: str | int) -> int:
    """A span's key by name: 64 bits, the same in every process."""
    digest = hashlib.blake2b("\0".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest)
