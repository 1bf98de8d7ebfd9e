"""A long prompt, or a slow receiver, holds up nobody else; and staging stays within its bound."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import pytest

from kvtransfer.delivery import Source
from kvtransfer.mover_config import MoverConfig
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.sends import SendLedger
from proto.layout import KvLayout
from tests.kvtransfer.builders import eventually, make_demand, make_order, make_ticket, prompt_bytes
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.paged import kv_of

# SmolLM2-135M in bf16 with vLLM's CPU backend, and the default slots.
SMOLLM2 = KvLayout(128, 3, 128, 64, "bfloat16", (30,))
LONG, SHORT = make_ticket(1), make_ticket(2)


def make_ledger() -> SendLedger:
    """With a prompt of 100,000 tokens and one of 200, both computed."""
    ledger = SendLedger(Source(SMOLLM2, 0, MoverConfig().slot_bytes - HEADER_BYTES))
    for ticket, num_tokens in ((LONG, 100_000), (SHORT, 200)):
        name = ticket.hex()
        ledger.open(ticket, name, 30.0, 0.0)
        ledger.place(name, tuple(range(SMOLLM2.num_blocks(num_tokens))))
        for layer in range(30):
            ledger.layer_computed(name, layer, num_tokens, 0.0)
    return ledger


def ask(ledger: SendLedger, ticket: bytes, num_tokens: int, reply_address: bytes) -> None:
    demand = make_demand(ticket, num_tokens=num_tokens, reply_address=reply_address, layout=SMOLLM2)
    ledger.demand(demand, 0.0)


def parcels_until_short_has_left(ledger: SendLedger) -> Counter[bytes]:
    """How many of each ticket's."""
    counts: Counter[bytes] = Counter()
    while ledger.num_completed == 0:
        parcel = ledger.next_parcel()
        assert parcel is not None
        counts[parcel.segment.ticket] += 1
        ledger.segment_done(parcel, True, 0.0)
    return counts


@pytest.mark.parametrize("reply_address", [b"same", b"other"])
def test_a_short_prompt_takes_turns_with_a_long_one(reply_address: bytes) -> None:
    ledger = make_ledger()
    ask(ledger, LONG, 99_999, b"same")
    for _ in range(100):
        parcel = ledger.next_parcel()
        assert parcel is not None
    ask(ledger, SHORT, 199, reply_address)
    counts = parcels_until_short_has_left(ledger)
    assert counts == {SHORT: 30, LONG: 30}


def test_a_hundred_long_prompts_leave_a_short_one_its_turn() -> None:
    """Nobody is passed over: after each turn of everybody, it is its turn."""
    ledger = make_ledger()
    for number in range(3, 102):
        ticket, name = make_ticket(number), f"p{number}"
        ledger.open(ticket, name, 30.0, 0.0)
        ledger.place(name, tuple(range(SMOLLM2.num_blocks(10_000))))
        for layer in range(30):
            ledger.layer_computed(name, layer, 10_000, 0.0)
        ask(ledger, ticket, 9_999, b"same")
    ask(ledger, LONG, 99_999, b"same")
    ask(ledger, SHORT, 199, b"same")
    counts = parcels_until_short_has_left(ledger)
    assert counts[SHORT] == 30
    assert {number for ticket, number in counts.items() if ticket != SHORT} == {30}


def test_a_receiver_without_room_is_passed_over_and_keeps_its_turn() -> None:
    ledger = make_ledger()
    ask(ledger, LONG, 99_999, b"full")
    ask(ledger, SHORT, 199, b"free")
    seen = []
    for _ in range(30):
        parcel = ledger.next_parcel(lambda address: address == b"free")
        assert parcel is not None
        seen.append(parcel.segment.ticket)
    assert seen == [SHORT] * 30
    assert ledger.next_parcel(lambda address: address == b"free") is None
    parcel = ledger.next_parcel()
    assert parcel is not None
    assert parcel.segment.ticket == LONG


# A block is more than UCX sends without asking the receiver.
LARGE = KvLayout(16, 1, 1024, 512, "uint8", (8,))
SLOT_BYTES = HEADER_BYTES + LARGE.head_bytes
EIGHT_SLOTS = MoverConfig(staging_bytes=16 * SLOT_BYTES, slot_bytes=SLOT_BYTES)
NUM_TOKENS = 16 * 8 + 1
KV = kv_of(LARGE, 1, NUM_TOKENS)


def load(prefill: Worker, decode: Worker, number: int, num_tokens: int = NUM_TOKENS) -> None:
    order = make_order(
        make_ticket(number),
        f"d{number}",
        num_tokens=num_tokens - 1,
        source_addresses=(prefill.address,),
        layout=LARGE,
        first_block=10 * number,
    )
    decode.load(order)


def test_a_receiver_that_stands_still_holds_half_of_the_slots_at_most(fleet: Fleet) -> None:
    prefill, slow, quick = (fleet.worker(EIGHT_SLOTS, LARGE) for _ in range(3))
    goes_on = threading.Event()
    slow.cache.before_copy = goes_on.wait
    for number, decode in ((1, slow), (2, quick), (3, quick)):
        load(prefill, decode, number)
        prefill.prefill(make_ticket(number), f"p{number}", KV, range(9))
        if decode is slow:
            eventually(lambda: prefill.mover.stats().staging_bytes == 4 * SLOT_BYTES)
        else:
            assert f"d{number}" in decode.wait_for(f"d{number}").completed
    assert prefill.mover.stats().staging_bytes == 4 * SLOT_BYTES
    assert prefill.mover.stats().open_sends == 1
    goes_on.set()
    assert slow.wait_for("d1").completed == ["d1"]
    prefill.wait_until_idle()


@pytest.mark.parametrize("num_slots", [1, 2, 3])
def test_under_load_staging_never_exceeds_its_number(fleet: Fleet, num_slots: int) -> None:
    """Sixteen hand-offs at once in both directions between three workers."""
    few = replace(EIGHT_SLOTS, staging_bytes=2 * num_slots * SLOT_BYTES)
    workers = [fleet.worker(few, LARGE) for _ in range(3)]
    seen: dict[Worker, set[int]] = {worker: set() for worker in workers}

    def watch(worker: Worker) -> None:
        worker.cache.before_copy = lambda: seen[worker].add(worker.held_bytes)

    for worker in workers:
        watch(worker)
    routes = [(workers[n % 3], workers[(n + 1 + n % 2) % 3]) for n in range(16)]
    for number, (prefill, decode) in enumerate(routes, start=1):
        load(prefill, decode, number, 33)
    for number, (prefill, _) in enumerate(routes, start=1):
        blocks = range(200, 203)
        prefill.prefill(make_ticket(number), f"p{number}", kv_of(LARGE, 1, 33), blocks)
    for number, (prefill, decode) in enumerate(routes, start=1):
        assert f"d{number}" in decode.wait_for(f"d{number}").completed
        prefill.wait_for(f"p{number}")
    for worker in workers:
        worker.wait_until_idle()
        assert 0 < max(seen[worker]) <= 2 * num_slots * SLOT_BYTES
        assert worker.mover.stats().failed_threads == 0
    received = sum(worker.mover.stats().received_bytes for worker in workers)
    assert received == 16 * prompt_bytes(32, LARGE)
