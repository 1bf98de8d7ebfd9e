"""What a simulated engine has room for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SimLimits:
    """`max_batch_tokens` are computed in a step at most, `max_chunk_tokens` of one prompt."""

    num_blocks: int = 1024
    block_size: int = 128
    max_model_len: int = 8192
    max_running: int = 256
    max_batch_tokens: int = 2048
    max_chunk_tokens: int = 2048
    max_loads: int = 256
    itl_goal_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for a cache that the longest request would not fit into."""
        if self.num_blocks * self.block_size < self.max_model_len:
            raise ValueError(
                f"{self.num_blocks} blocks of {self.block_size} tokens have no room for the "
                f"{self.max_model_len} tokens that a request may have"
            )
