"""A prefill engine of any layout, all ranks, by its ledgers and caches alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvtransfer.delivery import Source
from kvtransfer.sends import SendLedger
from proto.layout import KvLayout
from tests.kvtransfer.paged import Kv, TokenCache

LEASE = 30.0
MAX_PREEMPTIONS = 3


@dataclass(eq=False)
class Prompt:
    """As the engine sees it. `blocks` are those that it has now, `computed` tokens in them."""

    ticket: bytes
    request_id: str
    kv: Kv
    blocks: tuple[int, ...] = ()
    computed: int = 0
    num_preemptions: int = 0
    has_begun: bool = False
    has_ended: bool = False

    @property
    def num_tokens(self) -> int:
        return int(self.kv.shape[2])

    @property
    def is_computed(self) -> bool:
        return self.computed == self.num_tokens


@dataclass(eq=False)
class SourceRank:
    cache: TokenCache
    ledger: SendLedger
    freed: Counter[str] = field(default_factory=Counter)


class SourceEngine:
    """Steps of prompts, layer by layer. Blocks that were freed are written over at once."""

    def __init__(
        self,
        layout: KvLayout,
        prompts: list[Prompt],
        max_payload_bytes: int,
        dice: random.Random,
    ) -> None:
        self.layout = layout
        self.prompts = prompts
        self.dice = dice
        num_blocks = sum(layout.num_blocks(prompt.num_tokens) for prompt in prompts) + 1
        self.ranks = [
            SourceRank(
                TokenCache(layout, num_blocks, rank),
                SendLedger(Source(layout, rank, max_payload_bytes)),
            )
            for rank in range(layout.num_ranks)
        ]
        self._free = list(range(num_blocks))
        self._step: Iterator[None] | None = None

    @property
    def is_done(self) -> bool:
        return self._step is None and all(prompt.has_ended for prompt in self.prompts)

    def compute(self, now: float) -> None:
        """One layer, or the beginning or the end of a step."""
        if self._step is None:
            fit = [p for p in self.prompts if not p.has_ended and not p.is_computed]
            if not fit:
                return
            self._step = self._layers(self.dice.choice(fit), now)
        if next(self._step, "end") == "end":
            self._step = None

    def preempt(self) -> None:
        """Between two steps."""
        fit = [p for p in self.prompts if p.computed and not p.has_ended]
        fit = [p for p in fit if p.num_preemptions < MAX_PREEMPTIONS]
        if self._step is None and fit:
            prompt = self.dice.choice(fit)
            for rank in self.ranks:
                rank.ledger.forget_blocks([prompt.request_id])
            self._give_up(prompt)
            prompt.computed = 0
            prompt.num_preemptions += 1

    def end(self, is_early: bool = False) -> None:
        """The engine ends a request and keeps its blocks until all ranks have freed them."""
        fit = [p for p in self.prompts if p.has_begun and not p.has_ended]
        fit = [p for p in fit if is_early or p.is_computed]
        if self._step is None and fit:
            prompt = self.dice.choice(fit)
            prompt.has_ended = True
            for rank in self.ranks:
                rank.ledger.request_ended(prompt.ticket, prompt.request_id, prompt.is_computed)

    def take_freed(self) -> None:
        for rank in self.ranks:
            if rank.ledger.freed:
                rank.freed.update(rank.ledger.take_freed())
        for prompt in self.prompts:
            name, is_kept = prompt.request_id, prompt.has_ended and prompt.blocks
            if is_kept and all(rank.freed[name] for rank in self.ranks):
                self._give_up(prompt)

    def _layers(self, prompt: Prompt, now: float) -> Iterator[None]:
        first = prompt.computed
        end = self.dice.randint(first + 1, prompt.num_tokens)
        self._place(prompt, end, now)
        for layer in range(self.layout.num_layers):
            yield
            for rank in self.ranks:
                if layer in rank.ledger.shard.layers:
                    rank.cache.write(layer, prompt.kv, prompt.blocks, range(first, end))
                    rank.ledger.layer_computed(prompt.request_id, layer, end, now)
        prompt.computed = end

    def _place(self, prompt: Prompt, end: int, now: float) -> None:
        missing = self.layout.num_blocks(end) - len(prompt.blocks)
        self.dice.shuffle(self._free)
        prompt.blocks += tuple(self._free.pop() for _ in range(missing))
        prompt.has_begun = True
        for rank in self.ranks:
            rank.ledger.open(prompt.ticket, prompt.request_id, LEASE, now)
            rank.ledger.place(prompt.request_id, prompt.blocks)
            for layer in rank.ledger.shard.layers:
                rank.ledger.layer_computed(prompt.request_id, layer, prompt.computed, now)

    def _give_up(self, prompt: Prompt) -> None:
        for rank in self.ranks:
            rank.cache.blocks[:, list(prompt.blocks)] = self.dice.randrange(256)
        self._free += prompt.blocks
        prompt.blocks = ()
