"""One ticket on the prefill side: which of its tokens are computed, asked for and sent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from kvtransfer.layout import KvLayout
from kvtransfer.messages import Demand


@dataclass(slots=True)
class Outgoing:
    """State of one hand-off from this worker. Token counts are per layer.

    `computed[l]` tokens of layer l lie in the paged cache, `sent[l]` have been packed;
    `is_ended` says that the engine has ended the request and only keeps its blocks.
    """

    ticket: bytes
    request_id: str
    layout: KvLayout
    lease_seconds: float
    deadline: float
    block_ids: tuple[int, ...] = ()
    computed: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    demand: Demand | None = None
    num_in_flight: int = 0
    sent_bytes: int = 0
    computed_at: float = 0.0
    is_ended: bool = False
    _work: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.computed = [0] * self.layout.num_layers
        self.sent = [0] * self.layout.num_layers

    @property
    def end_token(self) -> int:
        """One past the last token asked for."""
        return self.demand.first_token + self.demand.num_tokens if self.demand else 0

    @property
    def is_complete(self) -> bool:
        """Everything asked for has left."""
        if self.demand is None or self.num_in_flight:
            return False
        return self.demand.num_tokens == 0 or min(self.sent) >= self.end_token

    def answer(self, demand: Demand) -> None:
        """Takes the receiver's demand; what is already computed becomes sendable."""
        self.demand = demand
        self.sent = [demand.first_token] * self.layout.num_layers
        self._work = deque(range(self.layout.num_layers))

    def layer_computed(self, layer: int, num_tokens: int, now: float) -> None:
        """Tokens up to `num_tokens` of `layer` are in the cache."""
        if num_tokens <= self.computed[layer]:
            return
        self.computed[layer] = num_tokens
        self.computed_at = now
        if self.demand is not None and layer not in self._work:
            self._work.append(layer)

    def forget_blocks(self) -> None:
        """The engine took the blocks back (preemption); the prompt is computed again."""
        self.block_ids = ()
        self.computed = [0] * self.layout.num_layers
        self._work.clear()

    def next_range(self, max_tokens: int) -> tuple[int, int, int] | None:
        """(layer, first token, number of tokens) to pack next, or None for now.

        Only whole blocks go, except at the end of the demand.
        """
        if self.demand is not None:
            max_tokens = min(max_tokens, self.layout.whole_blocks(self.demand.max_segment_tokens))
        while self._work:
            layer = self._work[0]
            first = self.sent[layer]
            end = min(self._sendable(layer), first + max_tokens)
            if end > first:
                self.sent[layer] = end
                return layer, first, end - first
            self._work.popleft()
        return None

    def _sendable(self, layer: int) -> int:
        if self.computed[layer] >= self.end_token:
            return self.end_token
        return self.layout.whole_blocks(self.computed[layer])
