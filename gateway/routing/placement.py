"""Where a request goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.routing.decider import Verdict
from gateway.routing.facts import WorkerFacts


@dataclass(frozen=True, slots=True)
class Placement:
    """`prefill` None: the decode worker computes the prompt itself, `num_tokens` of it, in about
    so many `seconds`. `kv_tokens` of its cache are promised to the request. `moved_tokens` of the
    prompt are not cached there: their KV is handed over.
    """

    decode: WorkerFacts
    prefill: WorkerFacts | None = None
    num_tokens: int = 0
    seconds: float = 0.0
    kv_tokens: int = 0
    moved_tokens: int = 0
    verdict: Verdict | None = field(default=None, repr=False)

    @property
    def is_long(self) -> bool:
        """Its prompt takes more than one step."""
        return self.num_tokens > (self.prefill or self.decode).step_tokens
