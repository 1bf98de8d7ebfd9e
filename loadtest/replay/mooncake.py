"""Mooncake's traces: one JSON a line, prompts as hashes of 512-token blocks.

https://github.com/kvcache-ai/Mooncake, FAST25-release/traces.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from loadtest.replay.errors import BadInput
from loadtest.replay.trace import Span, TraceRequest

BLOCK_TOKENS = 512


class Line(msgspec.Struct, frozen=True):
    """`timestamp` in ms. A hash stands for its block and all before it."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


def read_mooncake(path: Path) -> list[TraceRequest]:
    """Raises BadInput, OSError."""
    with path.open("rb") as file:
        return list(parse_mooncake(file, str(path)))


def parse_mooncake(lines: Iterable[bytes], name: str) -> Iterable[TraceRequest]:
    """Raises BadInput."""
    decoder = msgspec.json.Decoder(Line)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            yield request_of(decoder.decode(text))
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadInput(f"{name}, line {number}: {error}") from error


def request_of(line: Line) -> TraceRequest:
    """Raises ValueError."""
    num_blocks = -(-line.input_length // BLOCK_TOKENS)
    if line.input_length < 1 or line.output_length < 0 or line.timestamp < 0:
        raise ValueError("a length or the time is too small")
    if len(line.hash_ids) != num_blocks:
        raise ValueError(
            f"{line.input_length} tokens are {num_blocks} blocks, not {len(line.hash_ids)}"
        )
    tail = line.input_length - (num_blocks - 1) * BLOCK_TOKENS
    sizes = [BLOCK_TOKENS] * (num_blocks - 1) + [tail]
    prompt = tuple(Span(key, size) for key, size in zip(line.hash_ids, sizes, strict=True))
    return TraceRequest(line.timestamp / 1e3, prompt, max(1, line.output_length))
