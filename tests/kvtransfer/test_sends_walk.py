"""The send ledger under long random histories, against what an engine and a receiver rely on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kvtransfer.causes import Cause
from kvtransfer.sends import Parcel
from proto.layout import KvLayout
from tests.kvtransfer.builders import LAYOUT, make_demand, make_load, make_ticket
from tests.kvtransfer.send_steps import LEASE, TWO_RANKS, new_ledger

NUM_STEPS = 300


@dataclass(eq=False)
class Prompt:
    """A prefill request as the engine sees it."""

    ticket: bytes
    request_id: str
    num_tokens: int
    first_token: int
    target: KvLayout
    blocks: tuple[int, ...] = ()
    computed: int = 0
    has_ended: bool = False
    sent_until: Counter[tuple[int, int]] = field(default_factory=Counter)  # by rank and layer


class Walk:
    """An engine and receivers that do anything they may, in any order."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.ledger = new_ledger()
        self.now = 0.0
        self.prompts: list[Prompt] = []
        self.in_flight: list[Parcel] = []
        self.freed: Counter[str] = Counter()
        self.num_refused = 0
        self.next_block = 0
        self.moves: list[Callable[[], None]] = [
            self.arrive,
            *[self.compute] * 4,
            *[self.ask] * 4,
            *[self.pack] * 4,
            *[self.land] * 4,
            self.preempt,
            self.end,
            self.revoke,
            self.wait,
        ]

    def step(self) -> None:
        self.dice.choice(self.moves)()
        self.ledger.check_integrity()
        self.freed.update(self.ledger.take_freed())
        self.num_refused += len(self.ledger.take_refusals())

    def arrive(self) -> None:
        number = len(self.prompts) + 1
        # Now and then a ticket comes a second time, with another request.
        shown = make_ticket(number if self.dice.random() < 0.9 else self.dice.randint(1, number))
        num_tokens = self.dice.randint(1, 40)
        first = self.dice.randrange(0, num_tokens, LAYOUT.block_size)
        target = self.dice.choice((LAYOUT, LAYOUT, TWO_RANKS))
        self.prompts.append(Prompt(shown, f"p{number}", num_tokens, first, target))

    def compute(self) -> None:
        if prompt := self.any(lambda p: not p.has_ended and p.computed < p.num_tokens):
            prompt.computed = min(prompt.num_tokens, prompt.computed + self.dice.randint(1, 16))
            while len(prompt.blocks) < LAYOUT.num_blocks(prompt.computed):
                prompt.blocks += (self.next_block,)
                self.next_block += 1
            self.ledger.open(prompt.ticket, prompt.request_id, LEASE, self.now)
            self.ledger.place(prompt.request_id, prompt.blocks)
            for layer in range(LAYOUT.num_layers):
                self.ledger.layer_computed(prompt.request_id, layer, prompt.computed, self.now)

    def ask(self) -> None:
        if prompt := self.any(lambda _: True):
            length = max(0, prompt.num_tokens - 1 - prompt.first_token)
            demand = make_demand(
                prompt.ticket,
                prompt.first_token,
                length,
                layout=prompt.target,
                rank=self.dice.randrange(prompt.target.num_ranks),
                load=make_load(1 if self.dice.random() < 0.98 else 2),
            )
            self.ledger.demand(demand, self.now)

    def pack(self) -> None:
        if parcel := self.ledger.next_parcel():
            self.check_parcel(parcel)
            self.in_flight.append(parcel)

    def check_parcel(self, parcel: Parcel) -> None:
        """Its blocks are the request's own of this moment, and no token goes twice."""
        segment = parcel.segment
        block_ids = tuple(parcel.cut.block_ids)
        owners = [prompt for prompt in self.prompts if set(block_ids) <= set(prompt.blocks)]
        (owner,) = owners
        assert owner.ticket == segment.ticket
        assert not owner.has_ended or owner.request_id not in self.freed
        assert block_ids == owner.blocks[segment.first_block : segment.end_block]
        size = len(block_ids) * segment.num_heads * LAYOUT.head_bytes
        assert size == segment.payload_bytes
        end_token = segment.first_block * LAYOUT.block_size + parcel.cut.num_tokens
        assert end_token <= owner.computed
        assert segment.first_block >= owner.sent_until[parcel.rank, segment.layer]
        owner.sent_until[parcel.rank, segment.layer] = segment.end_block

    def land(self) -> None:
        if self.in_flight:
            parcel = self.in_flight.pop(self.dice.randrange(len(self.in_flight)))
            self.ledger.segment_done(parcel, self.dice.random() < 0.97, self.now)

    def preempt(self) -> None:
        if prompt := self.any(lambda p: not p.has_ended and p.computed > 0):
            self.ledger.forget_blocks([prompt.request_id])
            prompt.blocks, prompt.computed = (), 0

    def end(self) -> None:
        """As the connector does: only what has had blocks is reported as ended."""
        if prompt := self.any(lambda p: not p.has_ended and p.computed > 0):
            prompt.has_ended = True
            is_prefilled = prompt.computed == prompt.num_tokens
            self.ledger.request_ended(prompt.ticket, prompt.request_id, is_prefilled)

    def revoke(self) -> None:
        if self.dice.random() < 0.3 and (prompt := self.any(lambda _: True)):
            self.ledger.revoke(prompt.ticket, Cause.REVOKED)

    def wait(self) -> None:
        self.now += self.dice.random() * LEASE / 2
        self.ledger.expire(self.now)

    def any(self, is_fit: Callable[[Prompt], bool]) -> Prompt | None:
        fit = [
            p
            for p in self.prompts
            if is_fit(p) and not (p.has_ended and p.request_id in self.freed)
        ]
        return self.dice.choice(fit) if fit else None

    def finish(self) -> None:
        """Everything ends: what is under way lands, the engine's requests end, leases run out."""
        while self.in_flight:
            self.land()
        for prompt in self.prompts:
            if not prompt.has_ended and prompt.computed > 0:
                prompt.has_ended = True
                self.ledger.request_ended(prompt.ticket, prompt.request_id, is_prefilled=True)
        self.ledger.expire(self.now + 2 * LEASE)
        self.ledger.check_integrity()
        self.freed.update(self.ledger.take_freed())


@pytest.mark.parametrize("seed", range(40))
def test_every_ended_request_is_freed_exactly_once(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(NUM_STEPS):
        walk.step()
    walk.finish()
    ended = [prompt.request_id for prompt in walk.prompts if prompt.has_ended]
    assert walk.freed == Counter(ended)
    assert walk.ledger.num_open == 0
    assert walk.ledger.next_deadline() is None


def test_the_walks_come_everywhere() -> None:
    """Else the walk above would prove little."""
    completed = failed = refused = 0
    for seed in range(40):
        walk = Walk(seed)
        for _ in range(NUM_STEPS):
            walk.step()
        completed += walk.ledger.num_completed
        failed += walk.ledger.num_failed
        refused += walk.num_refused
    assert min(completed, failed, refused) > 100, (completed, failed, refused)
