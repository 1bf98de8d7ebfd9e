"""What an engine has computed, and how long that took."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Work:
    """Totals since the engine started, by what a step computed: prompts alone, next tokens
    alone, or both. A step's time passes from its start, or from the end of the one before.
    """

    prefill_steps: int = 0
    prefill_seconds: float = 0.0
    prefill_tokens: int = 0
    decode_steps: int = 0
    decode_seconds: float = 0.0
    decode_tokens: int = 0
    mixed_steps: int = 0
    mixed_seconds: float = 0.0
    mixed_prefill_tokens: int = 0
    mixed_decode_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0

    def after_step(self, seconds: float, num_prefill_tokens: int, num_decode_tokens: int) -> Work:
        """With one more step. Without tokens it was none."""
        if num_prefill_tokens and num_decode_tokens:
            return replace(
                self,
                mixed_steps=self.mixed_steps + 1,
                mixed_seconds=self.mixed_seconds + seconds,
                mixed_prefill_tokens=self.mixed_prefill_tokens + num_prefill_tokens,
                mixed_decode_tokens=self.mixed_decode_tokens + num_decode_tokens,
            )
        if num_prefill_tokens:
            return replace(
                self,
                prefill_steps=self.prefill_steps + 1,
                prefill_seconds=self.prefill_seconds + seconds,
                prefill_tokens=self.prefill_tokens + num_prefill_tokens,
            )
        if num_decode_tokens:
            return replace(
                self,
                decode_steps=self.decode_steps + 1,
                decode_seconds=self.decode_seconds + seconds,
                decode_tokens=self.decode_tokens + num_decode_tokens,
            )
        return self

    def with_cached(self, num_tokens: int) -> Work:
        """Tokens of prompts that lay in the prefix cache, or came from elsewhere."""
        return replace(self, cached_tokens=self.cached_tokens + num_tokens)

    def with_preempted(self, num_requests: int) -> Work:
        return replace(self, preemptions=self.preemptions + num_requests)
