"""An engine that computes KV out of nothing but a prompt's number; its transfers are real."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from kvtransfer.incoming import LoadOrder
from proto.layout import KvLayout
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.paged import Kv, kv_of

NUM_BLOCKS = 400
FILLER = 0xA5
CHUNK_TOKENS = 32
CHUNK_SECONDS = 0.02

# A block of one layer is more than UCX sends without asking the receiver.
LAYOUT = KvLayout(16, 2, 512, 256, "uint8", (6,))
LEASE_SECONDS = 4.0

Say = Callable[..., None]


def ticket_of(number: int) -> bytes:
    return number.to_bytes(16)


@dataclass(eq=False)
class Prefill:
    """`borders` are where its steps begin and end."""

    number: int
    kv: Kv
    block_ids: list[int]
    borders: deque[tuple[int, int]]
    is_aborted: bool = False

    @property
    def request_id(self) -> str:
        return f"p{self.number}"


@dataclass(eq=False)
class Load:
    """`how` it has ended, and what its blocks must be from then on."""

    number: int
    order: LoadOrder
    block_ids: list[int]
    opened_at: float
    how: str | None = None


@dataclass(eq=False)
class Engine:
    """Steps of prompts in turn. What has ended keeps its blocks until `check`, so that whatever
    is still written to them is found.
    """

    worker: Worker
    say: Say
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    free_blocks: list[int] = field(default_factory=lambda: list(range(NUM_BLOCKS)))
    prefills: dict[str, Prefill] = field(default_factory=dict)
    loads: dict[str, Load] = field(default_factory=dict)
    _steps: deque[Prefill] = field(default_factory=deque)

    @property
    def is_busy(self) -> bool:
        return bool(self._steps or self.prefills or any(not x.how for x in self.loads.values()))

    def prefill(self, number: int, num_tokens: int) -> None:
        borders = pairwise([*range(0, num_tokens, CHUNK_TOKENS), num_tokens])
        blocks = self._take_blocks(num_tokens)
        prompt = Prefill(number, kv_of(LAYOUT, number, num_tokens), blocks, deque(borders))
        self.prefills[prompt.request_id] = prompt
        self._steps.append(prompt)

    def abort(self, number: int) -> None:
        if prompt := self.prefills.get(f"p{number}"):
            prompt.is_aborted = True

    def load(self, number: int, num_tokens: int, source: bytes) -> None:
        blocks = self._take_blocks(num_tokens - 1)
        order = LoadOrder(
            ticket_of(number),
            self.dice.randbytes(16),
            f"d{number}",
            "p/1",
            (source,),
            LEASE_SECONDS,
            0,
            num_tokens - 1,
            tuple(blocks),
        )
        self.loads[order.request_id] = Load(number, order, blocks, time.monotonic())
        self.worker.load(order)

    def cancel(self, number: int) -> None:
        self.worker.cancel(f"d{number}")

    def turn(self) -> None:
        """One step, if there is one, and what has ended meanwhile."""
        if self._steps:
            prompt = self._steps.popleft()
            self._step(prompt)
            time.sleep(CHUNK_SECONDS)
        finished = self.worker.half.take_finished()
        for request_id in finished.sent:
            self.free_blocks += self.prefills.pop(request_id).block_ids
            self.say("freed", number=int(request_id[1:]))
        for how in ("completed", "failed", "cancelled"):
            for request_id in getattr(finished, how):
                self._ended(self.loads[request_id], how)

    def check(self) -> dict[str, Any]:
        """What is wrong, and what is held; everything that has ended gives its blocks back."""
        problems = list(self._problems())
        for request_id in [each for each, load in self.loads.items() if load.how]:
            self.free_blocks += self.loads.pop(request_id).block_ids
        stats = self.worker.mover.stats()
        return {
            "problems": problems,
            "failures": dict(stats.failures),
            "links": stats.links,
            "held": {
                "sends": stats.open_sends,
                "loads": stats.open_loads,
                "staging": stats.staging_bytes,
                "failed_threads": stats.failed_threads,
                "blocks": NUM_BLOCKS - len(self.free_blocks),
            },
        }

    def _step(self, prompt: Prefill) -> None:
        first, end = prompt.borders.popleft()
        ticket = ticket_of(prompt.number)
        args = (ticket, prompt.request_id, prompt.kv, (first, end), prompt.block_ids)
        self.worker.compute(*args, lease_seconds=LEASE_SECONDS)
        if prompt.is_aborted or not prompt.borders:
            self.worker.end(ticket, prompt.request_id, not prompt.is_aborted)
        else:
            self._steps.append(prompt)

    def _ended(self, load: Load, how: str) -> None:
        """A load that has failed is computed here, a cancelled one's blocks are another's."""
        is_right = load.how is None
        load.how = how
        if how == "completed":
            is_right &= self._is_as_it_must_be(load)
        elif how == "failed":
            kv = kv_of(LAYOUT, load.number, load.order.num_tokens + 1)
            for layer in range(LAYOUT.num_layers):
                tokens = range(load.order.num_tokens)
                self.worker.cache.write(layer, kv, load.block_ids, tokens)
        else:
            self.worker.cache.blocks[:, load.block_ids] = FILLER
        seconds = time.monotonic() - load.opened_at
        self.say("ended", number=load.number, how=how, is_right=is_right, seconds=seconds)

    def _problems(self) -> Iterator[str]:
        for load in self.loads.values():
            if load.how and not self._is_as_it_must_be(load):
                yield f"hand-off {load.number} was {load.how}, and then its blocks have changed"
        for ledger in (self.worker.mover.sends, self.worker.mover.loads):
            try:
                ledger.check_integrity()
            except AssertionError as error:
                yield f"a ledger without integrity: {error}"

    def _is_as_it_must_be(self, load: Load) -> bool:
        if load.how == "cancelled":
            return bool((self.worker.cache.blocks[:, load.block_ids] == FILLER).all())
        kv = kv_of(LAYOUT, load.number, load.order.num_tokens + 1)
        found = self.worker.cache.tokens(load.block_ids)[:, :, : load.order.num_tokens]
        return np.array_equal(found, kv[:, :, : load.order.num_tokens])

    def _take_blocks(self, num_tokens: int) -> list[int]:
        number = self.worker.layout.num_blocks(num_tokens)
        assert number <= len(self.free_blocks), "a run asks for more blocks than there are"
        self.dice.shuffle(self.free_blocks)
        taken, self.free_blocks = self.free_blocks[:number], self.free_blocks[number:]
        return taken
