"""A decode engine of any layout, all ranks, by its ledgers and caches alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kvtransfer.errors import MalformedMessage
from kvtransfer.incoming import LoadOrder, Place
from kvtransfer.loads import LoadLedger
from kvtransfer.segment import HEADER_BYTES, Segment, is_intact
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout
from tests.kvtransfer.builders import SEAL, make_load
from tests.kvtransfer.paged import Kv, TokenCache
from tests.kvtransfer.source_engine import LEASE, Prompt

FILLER = 0xA5


class CountingCache(TokenCache):
    """Counts how often each head of each block of each layer was written by a transfer."""

    def __init__(self, layout: KvLayout, num_blocks: int, rank: int) -> None:
        super().__init__(layout, num_blocks, rank)
        self.blocks[:] = FILLER
        self.writes: NDArray[np.int64] = np.zeros(self.blocks.shape[:3], np.int64)

    def unpack(self, place: Place, wire: WireFormat, data: Slot) -> None:
        heads = slice(place.heads.start, place.heads.stop)
        for block in place.block_ids:
            self.writes[place.layer, block, heads] += 1
        super().unpack(place, wire, data)


@dataclass(eq=False)
class TargetRank:
    """`outcomes` are how loads have ended; `left` what their blocks were then."""

    cache: CountingCache
    ledger: LoadLedger
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: dict[str, NDArray[np.uint8]] = field(default_factory=dict)


class TargetEngine:
    """One load for each prompt, of what lies between `first_tokens` and the last token."""

    def __init__(
        self,
        layout: KvLayout,
        prompts: list[Prompt],
        first_tokens: list[int],
        dice: random.Random,
    ) -> None:
        self.layout = layout
        self.dice = dice
        sizes = [layout.num_blocks(prompt.num_tokens) for prompt in prompts]
        self._free = dice.sample(range(sum(sizes) + 1), sum(sizes))
        self.kv = {prompt.request_id: prompt.kv for prompt in prompts}
        self.orders = [
            self._order(prompt, first) for prompt, first in zip(prompts, first_tokens, strict=True)
        ]
        self.ranks = [
            TargetRank(CountingCache(layout, sum(sizes) + 1, rank), LoadLedger(layout, rank))
            for rank in range(layout.num_ranks)
        ]

    def store(self, number: int, message: Slot, now: float) -> None:
        """As the receiver does; nothing that comes is malformed here."""
        rank = self.ranks[number]
        segment = Segment.read(message)
        assert is_intact(message, SEAL.seed(segment.ticket))
        try:
            place = rank.ledger.place_of(segment)
        except MalformedMessage as error:
            raise AssertionError(f"{segment}: {error}") from error
        if place is not None:
            rank.cache.unpack(place, segment.wire, message[HEADER_BYTES:])
            rank.ledger.landed(segment, now)

    def take_ended(self) -> None:
        """Checks what has been completed, and remembers what all have left."""
        for rank in self.ranks:
            ledger = rank.ledger
            if not (ledger.completed or ledger.failed or ledger.cancelled):
                continue
            ended = {
                "completed": ledger.take_completed(),
                "failed": ledger.take_failed(),
                "cancelled": ledger.take_cancelled(),
            }
            for outcome, request_ids in ended.items():
                for request_id in request_ids:
                    rank.outcomes[request_id, outcome] += 1
                    self._look_at(rank, request_id, outcome)

    def check_left_alone(self) -> None:
        """Nothing was written after a load's end, nor outside of what was asked for."""
        for rank in self.ranks:
            asked = np.zeros(rank.cache.writes.shape[1], bool)
            for order in self.orders:
                asked[list(order.block_ids)] = True
                if (left := rank.left.get(order.request_id)) is not None:
                    np.testing.assert_array_equal(self._blocks(rank, order), left)
            assert not rank.cache.writes[:, ~asked].any()
            assert (rank.cache.blocks[:, ~asked] == FILLER).all()
            assert rank.cache.writes.max() <= 1

    def _look_at(self, rank: TargetRank, request_id: str, outcome: str) -> None:
        (order,) = (each for each in self.orders if each.request_id == request_id)
        rank.left[request_id] = self._blocks(rank, order).copy()
        if outcome == "completed":
            landed = rank.cache.tokens(order.block_ids)[:, :, : order.num_tokens]
            np.testing.assert_array_equal(landed, self._expected(rank, order))
            assert (rank.cache.writes[:, list(order.block_ids)] == 1).all()

    def _expected(self, rank: TargetRank, order: LoadOrder) -> Kv:
        layers, heads = rank.ledger.shard.layers, rank.ledger.shard.heads
        kv = self.kv[order.request_id][layers.start : layers.stop, heads.start : heads.stop]
        return kv[:, :, order.first_token : order.end_token]

    def _blocks(self, rank: TargetRank, order: LoadOrder) -> NDArray[np.uint8]:
        return rank.cache.blocks[:, list(order.block_ids)]

    def _order(self, prompt: Prompt, first_token: int) -> LoadOrder:
        num_blocks = self.layout.num_blocks(prompt.num_tokens - 1)
        blocks = [self._free.pop() for _ in range(num_blocks)]
        return LoadOrder(
            prompt.ticket,
            make_load(int.from_bytes(prompt.ticket)),
            prompt.request_id,
            "p/1",
            (b"unused",),
            LEASE,
            first_token,
            prompt.num_tokens - 1 - first_token,
            tuple(blocks[first_token // self.layout.block_size :]),
        )
