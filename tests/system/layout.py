"""What the model's shape says of the bytes that move. Nothing of kvtransfer is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.system.prompts import BLOCK_SIZE

NUMBER_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Layout:
    bytes_per_token: int

    @classmethod
    def of(cls, model: Path, dtype: str) -> Layout:
        config = json.loads((model / "config.json").read_text())
        head_size = config["hidden_size"] // config["num_attention_heads"]
        numbers = config["num_hidden_layers"] * config["num_key_value_heads"] * head_size * 2
        return cls(numbers * NUMBER_BYTES[dtype])

    def moved_bytes(self, num_tokens: int, num_cached: int = 0) -> int:
        """For a prompt of `num_tokens` of which the decode worker holds the first `num_cached`.

        Whole blocks move. The last token is always computed by the decode worker.
        """
        first, last = num_cached // BLOCK_SIZE, -(-(num_tokens - 1) // BLOCK_SIZE)
        return max(0, last - first) * BLOCK_SIZE * self.bytes_per_token


def whole_blocks(num_tokens: int) -> int:
    return num_tokens // BLOCK_SIZE * BLOCK_SIZE


def common_prefix(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Tokens that two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
