"""Pairs of real transfer threads, over each transport."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from kvtransfer.connector_orders import StepOrders
from kvtransfer.errors import StagingTooSmall
from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.mover import Mover
from kvtransfer.mover_config import MoverConfig
from kvtransfer.numpy_cache import NumpyPagedCache
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.staging import Slot
from tests.kvtransfer.builders import (
    LAYOUT,
    SEAL,
    eventually,
    layer_bytes,
    make_order,
    make_ticket,
    prompt_bytes,
)
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.paged import Kv, kv_of

LEAST_SLOT_BYTES = HEADER_BYTES + layer_bytes(1)
ONE_SLOT = MoverConfig(staging_bytes=2 * LEAST_SLOT_BYTES, slot_bytes=1)
FEW_SLOTS = MoverConfig(staging_bytes=4096, slot_bytes=512)


def assert_same(worker: Worker, kv: Kv, first_token: int, num_tokens: int) -> None:
    """The tokens that were asked for lie in blocks 100, 101, … of `worker`."""
    blocks = range(100, 100 + LAYOUT.num_blocks(num_tokens))
    landed = worker.cache.tokens(blocks)[:, :, :num_tokens]
    np.testing.assert_array_equal(landed, kv[:, :, first_token : first_token + num_tokens])


def transfer(
    prefill: Worker, decode: Worker, number: int, num_tokens: int, borders: list[int]
) -> None:
    """One prompt, all but its last token, as the engines do it; and the check that it came."""
    ticket, kv = make_ticket(number), kv_of(LAYOUT, number, num_tokens)
    order = make_order(
        ticket, f"d{number}", num_tokens=num_tokens - 1, source_addresses=(prefill.address,)
    )
    decode.load(order)
    prefill.compute(ticket, f"p{number}", kv, borders, range(LAYOUT.num_blocks(num_tokens)))
    prefill.end(ticket, f"p{number}")
    finished = decode.wait_for(f"d{number}")
    assert f"d{number}" in finished.completed
    assert_same(decode, kv, 0, num_tokens - 1)
    prefill.wait_for(f"p{number}")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(None, id="default"),
        pytest.param(FEW_SLOTS, id="few-slots"),
        pytest.param(ONE_SLOT, id="one-slot-each-way"),
    ],
)
def test_kv_arrives_whole_however_it_is_cut(fleet: Fleet, config: MoverConfig | None) -> None:
    prefill, decode = fleet.worker(config), fleet.worker(config)
    dice = random.Random(1)
    lengths = [2, 3, 4, 5, 6, 8, 9, 16, 17, 63, 64, 65, *(dice.randint(2, 300) for _ in range(8))]
    moved = 0
    for number, num_tokens in enumerate(lengths, start=1):
        cuts = dice.sample(range(1, num_tokens), k=min(dice.randrange(5), num_tokens - 1))
        transfer(prefill, decode, number, num_tokens, [0, *sorted(cuts), num_tokens])
        moved += prompt_bytes(num_tokens - 1)
    prefill.wait_until_idle()
    sent, received = prefill.mover.stats(), decode.mover.stats()
    assert sent.sent_bytes == received.received_bytes == moved
    assert (sent.sends_completed, sent.sends_failed) == (len(lengths), 0)
    assert (received.loads_completed, received.loads_failed) == (len(lengths), 0)
    assert received.late_segments == 0


def test_sixteen_prompts_at_once(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(FEW_SLOTS, num_blocks=1024), fleet.worker(FEW_SLOTS)
    kvs = {number: kv_of(LAYOUT, number, 40 + number) for number in range(1, 17)}
    for number, kv in kvs.items():
        order = make_order(
            make_ticket(number),
            f"d{number}",
            num_tokens=kv.shape[2] - 1,
            source_addresses=(prefill.address,),
            first_block=number * 15,
        )
        decode.load(order)
    for number, kv in kvs.items():
        blocks = range(number * 20, number * 20 + 20)
        prefill.compute(make_ticket(number), f"p{number}", kv, (0, 7, kv.shape[2]), blocks)
        prefill.end(make_ticket(number), f"p{number}")
    decode.wait_for(*(f"d{number}" for number in kvs))
    assert len(decode.finished().completed) == 16
    prefill.wait_for(*(f"p{number}" for number in kvs))
    for number, kv in kvs.items():
        num_tokens = kv.shape[2] - 1
        blocks = range(number * 15, number * 15 + LAYOUT.num_blocks(num_tokens))
        landed = decode.cache.tokens(blocks)[:, :, :num_tokens]
        np.testing.assert_array_equal(landed, kv[:, :, :num_tokens])


def test_a_prompt_can_be_asked_for_when_it_is_long_computed(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    kv = kv_of(LAYOUT, 1, 30)
    prefill.prefill(make_ticket(), "p1", kv, range(10))
    eventually(lambda: prefill.mover.stats().open_sends == 1)
    assert prefill.finished().sent == []
    decode.load(make_order(num_tokens=29, source_addresses=(prefill.address,)))
    assert decode.wait_for("d1").completed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]
    assert_same(decode, kv, 0, 29)


def test_a_prompt_can_be_asked_for_while_it_is_computed(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    kv = kv_of(LAYOUT, 1, 30)
    prefill.compute(make_ticket(), "p1", kv, (0, 13), range(10))
    decode.load(make_order(num_tokens=29, source_addresses=(prefill.address,)))
    early = prompt_bytes(12)
    eventually(lambda: decode.mover.stats().received_bytes == early)
    assert decode.finished().completed == []
    prefill.compute(make_ticket(), "p1", kv, (13, 30), range(10))
    assert decode.wait_for("d1").completed == ["d1"]
    assert_same(decode, kv, 0, 29)


def test_layers_go_while_later_ones_are_computed(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    kv = kv_of(LAYOUT, 1, 9)
    decode.load(make_order(num_tokens=8, source_addresses=(prefill.address,)))
    one_layer = layer_bytes(8)

    def wait_for_the_layers_before(layer: int) -> None:
        eventually(lambda: decode.mover.stats().received_bytes == layer * one_layer)

    prefill.compute(
        make_ticket(), "p1", kv, (0, 9), range(3), before_layer=wait_for_the_layers_before
    )
    assert decode.wait_for("d1").completed == ["d1"]


def test_only_what_the_receiver_lacks_is_moved(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    kv = kv_of(LAYOUT, 1, 30)
    prefill.prefill(make_ticket(), "p1", kv, range(10))
    decode.load(make_order(first_token=16, num_tokens=13, source_addresses=(prefill.address,)))
    assert decode.wait_for("d1").completed == ["d1"]
    assert_same(decode, kv, 16, 13)
    assert decode.mover.stats().received_bytes == prompt_bytes(13)


def test_blocks_from_the_prefix_cache_go_before_anything_is_computed(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    kv = kv_of(LAYOUT, 1, 20)
    prefill.prefill(make_ticket(1), "p1", kv, range(5))
    decode.load(make_order(make_ticket(2), num_tokens=19, source_addresses=(prefill.address,)))
    cached = prompt_bytes(16)

    def wait_for_the_cached_blocks(layer: int) -> None:
        if layer == 0:
            eventually(lambda: decode.mover.stats().received_bytes == cached)

    prefill.compute(
        make_ticket(2), "p2", kv, (16, 20), range(5), before_layer=wait_for_the_cached_blocks
    )
    assert decode.wait_for("d1").completed == ["d1"]
    assert_same(decode, kv, 0, 19)


def test_a_preempted_prompt_arrives_from_its_new_blocks(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    kv = kv_of(LAYOUT, 1, 30)
    decode.load(make_order(num_tokens=29, source_addresses=(prefill.address,)))
    prefill.compute(make_ticket(), "p1", kv, (0, 18), range(10))
    prefill.half.preempted(StepOrders(preempted=["p1"]))
    prefill.cache.blocks[:] = 0  # the engine gives the blocks to others
    prefill.compute(make_ticket(), "p1", kv, (0, 11, 30), range(40, 50))
    assert decode.wait_for("d1").completed == ["d1"]
    assert_same(decode, kv, 0, 29)


def test_two_decode_workers_take_from_one_prefill_worker(fleet: Fleet) -> None:
    prefill, decodes = fleet.worker(), [fleet.worker(), fleet.worker()]
    kvs = [kv_of(LAYOUT, number, 50) for number in range(2)]
    for number, decode in enumerate(decodes):
        ticket = make_ticket(number + 1)
        decode.load(make_order(ticket, num_tokens=49, source_addresses=(prefill.address,)))
        blocks = range(20 * number, 20 * number + 20)
        prefill.prefill(ticket, f"p{number}", kvs[number], blocks)
    for kv, decode in zip(kvs, decodes, strict=True):
        assert decode.wait_for("d1").completed == ["d1"]
        assert_same(decode, kv, 0, 49)


def test_one_decode_worker_takes_from_two_prefill_workers(fleet: Fleet) -> None:
    prefills, decode = [fleet.worker(FEW_SLOTS), fleet.worker(FEW_SLOTS)], fleet.worker(ONE_SLOT)
    for number, prefill in enumerate(prefills, start=1):
        order = make_order(
            make_ticket(number),
            f"d{number}",
            num_tokens=99,
            source_addresses=(prefill.address,),
            first_block=number * 50,
        )
        decode.load(order)
        prefill.prefill(make_ticket(number), "p1", kv_of(LAYOUT, number, 100), range(25))
    decode.wait_for("d1", "d2")
    assert len(decode.finished().completed) == 2


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(MoverConfig(), id="default"),
        pytest.param(MoverConfig(staging_bytes=10_000, slot_bytes=1000), id="uneven"),
        pytest.param(MoverConfig(staging_bytes=3000, slot_bytes=1 << 20), id="less-than-two-slots"),
        pytest.param(ONE_SLOT, id="one-slot-each-way"),
    ],
)
def test_staging_is_allocated_once_and_within_its_bound(config: MoverConfig) -> None:
    allocated: list[int] = []

    def allocate(num_bytes: int) -> Slot:
        allocated.append(num_bytes)
        return np.zeros(num_bytes, np.uint8)

    cache = NumpyPagedCache(LAYOUT, 1)
    Mover(InProcessNetwork().transport(), cache, SEAL, config, allocate)
    assert 0 < sum(allocated) <= config.staging_bytes
    assert min(allocated) >= LEAST_SLOT_BYTES


def test_staging_that_holds_no_block_each_way_is_refused() -> None:
    config = MoverConfig(staging_bytes=2 * LEAST_SLOT_BYTES - 1)
    with pytest.raises(StagingTooSmall, match="--staging-mib 1 is the least here"):
        Mover(InProcessNetwork().transport(), NumpyPagedCache(LAYOUT, 1), SEAL, config)


def test_staging_in_use_is_reported_and_given_back(simulated_fleet: Fleet) -> None:
    prefill, decode = simulated_fleet.worker(ONE_SLOT), simulated_fleet.worker(ONE_SLOT)
    seen: set[int] = set()
    decode.cache.before_copy = lambda: seen.add(decode.held_bytes)
    prefill.cache.before_copy = lambda: seen.add(prefill.held_bytes)
    transfer(prefill, decode, 1, 40, [0, 40])
    assert seen == {LEAST_SLOT_BYTES}
    prefill.wait_until_idle()
    decode.wait_until_idle()


def test_statistics_come_when_they_have_changed(simulated_fleet: Fleet) -> None:
    prefill, decode = simulated_fleet.worker(), simulated_fleet.worker()
    assert decode.half.take_stats() is None
    transfer(prefill, decode, 1, 10, [0, 10])
    stats = decode.half.take_stats()
    assert stats is not None
    assert (stats.loads_completed, stats.open_loads) == (1, 0)
    assert stats.load_seconds > 0
    assert decode.half.take_stats() is None


def test_one_of_several_ranks_tells_its_statistics_at_every_step(simulated_fleet: Fleet) -> None:
    """vLLM adds up what the ranks say at a step: one that said nothing would be missing."""
    worker = simulated_fleet.worker(layout=replace(LAYOUT, tensor_parallel_size=2))
    assert worker.half.take_stats() is not None
    assert worker.half.take_stats() is not None
