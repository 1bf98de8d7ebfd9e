"""How one engine rank's KV cache lies in memory, and the bytes that tokens take in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class KvLayout:
    """One rank's KV cache: per layer an array of blocks.

    `content_bytes` is what one token takes in one head of one layer (K and V together). What
    lies where inside a block is the attention backend's business (vLLM's CPU backend, for
    one, keeps all K of a block before all V), so blocks are moved whole.
    """

    block_size: int
    num_layers: int
    num_heads: int
    content_bytes: int
    dtype: str
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in one layer."""
        return self.block_size * self.num_heads * self.content_bytes

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token in all layers."""
        return self.num_layers * self.num_heads * self.content_bytes

    @property
    def fingerprint(self) -> str:
        """Equal for two ranks whose KV can be exchanged without conversion."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.num_layers} layers, {self.num_heads} KV heads, {self.dtype}, "
            f"blocks of {self.block_size} tokens, {self.bytes_per_token} bytes a token, "
            f"TP {self.tensor_parallel_size} PP {self.pipeline_parallel_size}"
        )

    def num_blocks(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens take."""
        return -(-num_tokens // self.block_size)

    def layer_bytes(self, num_tokens: int) -> int:
        """Bytes that move for `num_tokens` tokens in one layer: their blocks, whole."""
        return self.num_blocks(num_tokens) * self.block_bytes

    def whole_blocks(self, num_tokens: int) -> int:
        """The largest multiple of the block size that is not above `num_tokens`."""
        return num_tokens - num_tokens % self.block_size

    def to_json(self) -> str:
        """What `Describe` reports: the fields, and the derived ones."""
        return json.dumps(
            {
                **asdict(self),
                "bytes_per_token": self.bytes_per_token,
                "fingerprint": self.fingerprint,
                "summary": self.summary,
            }
        )
