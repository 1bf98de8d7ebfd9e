"""Whatever the two layouts are, and whatever happens: exactly what was asked for arrives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto.layout import KvLayout, Part
from tests.kvtransfer.builders import make_ticket, tiled, transposed
from tests.kvtransfer.ledger_pair import LedgerPair
from tests.kvtransfer.paged import kv_of
from tests.kvtransfer.source_engine import LEASE, Prompt, SourceEngine
from tests.kvtransfer.target_engine import TargetEngine

MAX_STEPS = 50_000
bounded = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass(frozen=True, slots=True)
class Case:
    source: KvLayout
    target: KvLayout
    prompts: list[tuple[int, int]]  # tokens, and how many of them the target has
    source_blocks: int  # of the target's size, that fit in a segment at either end
    target_blocks: int
    seed: int


@st.composite
def stages(draw: st.DrawFn, num_layers: int) -> tuple[int, ...]:
    """Any way to cut the layers into pipeline stages."""
    borders = draw(st.sets(st.integers(1, num_layers - 1))) if num_layers > 1 else set()
    cuts = [0, *sorted(borders), num_layers]
    return tuple(end - first for first, end in pairwise(cuts))


def interiors(block_size: int, content: int) -> list[tuple[Part, ...]]:
    """Those that a block of this shape can have."""
    found: list[tuple[Part, ...]] = [()]
    found.append((Part(0, ((content, 1), (block_size, content))),))
    if content % 2 == 0:
        found.append(transposed(block_size, content))
    if content % 4 == 0 and block_size % 2 == 0:
        found.append(tiled(block_size, content, 2))
    return found


@st.composite
def layouts(draw: st.DrawFn, model: KvLayout) -> KvLayout:
    """One engine's, of a model's one."""
    block_size = draw(st.integers(1, 20))
    heads = model.num_heads
    ranks = [n for n in range(1, 7) if heads % n == 0 or n % heads == 0]
    return KvLayout(
        block_size,
        heads,
        model.content_size,
        model.key_size,
        model.dtype,
        draw(stages(model.num_layers)),
        draw(st.sampled_from(ranks)),
        draw(st.sampled_from(interiors(block_size, model.content_size))),
    )


@st.composite
def models(draw: st.DrawFn) -> KvLayout:
    is_latent = draw(st.booleans())
    content = draw(st.sampled_from([1, 2, 3, 4, 8]))
    return KvLayout(
        block_size=1,
        num_heads=1 if is_latent else draw(st.sampled_from([1, 2, 3, 4, 6])),
        content_size=content,
        key_size=content if is_latent else content // 2,
        dtype=draw(st.sampled_from(["fp8_e4m3", "uint8", "bfloat16", "float32"])),
        stage_layers=(draw(st.integers(1, 5)),),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    model = draw(models())
    source, target = draw(layouts(model)), draw(layouts(model))
    lengths = draw(st.lists(st.integers(2, 70), min_size=1, max_size=3))
    return Case(
        source,
        target,
        [
            (length, draw(st.integers(0, (length - 2) // target.block_size)) * target.block_size)
            for length in lengths
        ],
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 1 << 32)),
    )


def make_pair(case: Case) -> LedgerPair:
    dice = random.Random(case.seed)
    prompts = [
        Prompt(make_ticket(number), f"r{number}", kv_of(case.source, number, length))
        for number, (length, _) in enumerate(case.prompts, start=1)
    ]
    block_bytes = case.target.head_bytes * case.target.shard(0).num_heads
    source = SourceEngine(case.source, prompts, case.source_blocks * block_bytes, dice)
    target = TargetEngine(case.target, prompts, [first for _, first in case.prompts], dice)
    return LedgerPair(source, target, case.target_blocks * block_bytes, dice)


def run_until(holds: Callable[[], bool], pair: LedgerPair, moves: list[Callable[[], None]]) -> None:
    for _ in range(MAX_STEPS):
        if holds():
            return
        pair.step(moves)
    raise AssertionError(f"it did not come to pass in {MAX_STEPS} steps")


def good_moves(pair: LedgerPair) -> list[Callable[[], None]]:
    return [
        *[pair.compute] * 4,
        *[pair.deliver] * 4,
        *[pair.pack] * 4,
        *[pair.land] * 4,
        *[pair.notice] * 3,
        pair.ask,
        pair.source.end,
        pair.source.preempt,
    ]


def is_over(pair: LedgerPair) -> bool:
    return pair.is_still and not any(ledger.num_open for ledger in pair.ledgers)


def check_ended(pair: LedgerPair) -> None:
    """Every request was freed once by every rank, every load has ended once, and both sides
    have counted the same.
    """
    pair.check_integrity()
    begun = {prompt.request_id for prompt in pair.source.prompts if prompt.has_begun}
    for sender in pair.source.ranks:
        assert sender.freed == Counter(begun)
        assert sender.ledger.next_deadline() is None
        assert sender.ledger.held_bytes == 0
    asked = Counter(order.request_id for order in pair.asked)
    for receiver in pair.target.ranks:
        ended = Counter[str]()
        for (request_id, _), number in receiver.outcomes.items():
            ended[request_id] += number
        assert ended == asked
        assert receiver.ledger.next_deadline() is None
        assert receiver.ledger.awaited_bytes == 0
    pair.target.check_left_alone()


@bounded
@given(cases())
def test_what_was_asked_for_arrives_exactly_once(case: Case) -> None:
    pair = make_pair(case)
    run_until(lambda: is_over(pair), pair, good_moves(pair))
    check_ended(pair)
    for receiver in pair.target.ranks:
        assert all(outcome == "completed" for _, outcome in receiver.outcomes)
        assert receiver.ledger.num_late_segments == 0
    sent = sum(sender.ledger.sent_bytes for sender in pair.source.ranks)
    assert sent == sum(receiver.ledger.received_bytes for receiver in pair.target.ranks)
    assert not any(sender.ledger.num_failed for sender in pair.source.ranks)


@bounded
@given(cases())
def test_whatever_ends_a_handoff_leaves_nothing(case: Case) -> None:
    """Aborts, cancels, losses and expiry at any moment; then leases run out."""
    pair = make_pair(case)
    rare: list[Callable[[], None]] = [
        pair.cancel,
        pair.fail,
        pair.drop,
        pair.wait,
        lambda: pair.source.end(is_early=True),
    ]
    moves = good_moves(pair) * 4 + rare
    for _ in range(pair.dice.randrange(400)):
        pair.step(moves)
    finish(pair)
    check_ended(pair)


def finish(pair: LedgerPair) -> None:
    """What is under way arrives or not, the engines end everything, and all leases run out."""
    moves = [*good_moves(pair), lambda: pair.source.end(is_early=True)]
    run_until(lambda: pair.is_still, pair, moves)

    def expire() -> None:
        pair.now += LEASE
        pair.wait()

    run_until(lambda: is_over(pair), pair, [expire, pair.deliver, pair.land, pair.notice])
