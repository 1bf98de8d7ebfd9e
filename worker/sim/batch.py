"""What one step of a simulated engine computes, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.sim.profile import SimProfile
from worker.sim.request import Request


@dataclass(slots=True)
class Batch:
    """`parts`: requests with the number of their tokens. `began`: when it was started."""

    began: float = 0.0
    parts: list[tuple[Request, int]] = field(default_factory=list)
    num_prefill_tokens: int = 0
    num_pairs: float = 0.0
    num_decodes: int = 0
    num_context_tokens: int = 0

    def add(self, request: Request, num_tokens: int) -> None:
        self.parts.append((request, num_tokens))
        num_before = request.context.num_tokens
        if num_tokens == 1 and request.num_outputs:
            self.num_decodes += 1
            self.num_context_tokens += num_before
        else:
            self.num_prefill_tokens += num_tokens
            self.num_pairs += num_tokens * (num_before + num_tokens / 2)

    def seconds(self, profile: SimProfile) -> float:
        return (
            profile.step_seconds
            + profile.prefill_token_seconds * self.num_prefill_tokens
            + profile.attention_seconds * self.num_pairs
            + profile.decode_seconds * self.num_decodes
            + profile.context_token_seconds * self.num_context_tokens
        )
