"""Engines of different shape hand over by real transfer threads, rank by rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvtransfer.incoming import LoadOrder
from kvtransfer.mover_config import MoverConfig
from proto.layout import KvLayout
from tests.kvtransfer.builders import make_order, make_ticket, transposed
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.paged import Kv, kv_of

PLAIN = KvLayout(8, 4, 8, 4, "float16", (4,))
LATENT = KvLayout(8, 1, 8, 8, "fp8_e4m3", (4,))
FEW_SLOTS = MoverConfig(staging_bytes=1 << 14, slot_bytes=2048)
NUM_TOKENS = 61

PAIRS = [
    pytest.param(replace(PLAIN, tensor_parallel_size=2), PLAIN, id="TP2-TP1"),
    pytest.param(PLAIN, replace(PLAIN, tensor_parallel_size=2), id="TP1-TP2"),
    pytest.param(
        replace(PLAIN, tensor_parallel_size=2), replace(PLAIN, tensor_parallel_size=2), id="TP2-TP2"
    ),
    pytest.param(replace(PLAIN, stage_layers=(3, 1)), PLAIN, id="PP2-PP1"),
    pytest.param(PLAIN, replace(PLAIN, block_size=4), id="8-4"),
    pytest.param(PLAIN, replace(PLAIN, block_size=12), id="8-12"),
    pytest.param(
        replace(PLAIN, interior=transposed(8, 8)),
        replace(PLAIN, block_size=16, tensor_parallel_size=2, stage_layers=(1, 3)),
        id="everything",
    ),
    pytest.param(
        replace(LATENT, tensor_parallel_size=2), replace(LATENT, block_size=16), id="latent-TP2-TP1"
    ),
    pytest.param(
        LATENT, replace(LATENT, tensor_parallel_size=2, block_size=5), id="latent-TP1-TP2"
    ),
]


def load_all(prefills: list[Worker], decodes: list[Worker], first_token: int) -> LoadOrder:
    """One order for every rank."""
    order = make_order(
        first_token=first_token,
        num_tokens=NUM_TOKENS - 1 - first_token,
        source_addresses=tuple(worker.address for worker in prefills),
        layout=decodes[0].layout,
    )
    for worker in decodes:
        worker.load(order)
    return order


def assert_landed(decodes: list[Worker], order: LoadOrder, kv: Kv) -> None:
    for worker in decodes:
        layers, heads = worker.shard.layers, worker.shard.heads
        landed = worker.cache.tokens(order.block_ids)[:, :, : order.num_tokens]
        expected = kv[layers.start : layers.stop, heads.start : heads.stop]
        np.testing.assert_array_equal(landed, expected[:, :, order.first_token : order.end_token])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_prompt_arrives_at_every_rank(fleet: Fleet, source: KvLayout, target: KvLayout) -> None:
    prefills, decodes = fleet.ranks(source, FEW_SLOTS), fleet.ranks(target, FEW_SLOTS)
    kv = kv_of(source, 1, NUM_TOKENS)
    order = load_all(prefills, decodes, first_token=2 * target.block_size)
    for worker in prefills:
        worker.compute(make_ticket(), "p1", kv, (0, 13, 40, NUM_TOKENS), range(20))
        worker.end(make_ticket(), "p1")
    for worker in decodes:
        assert worker.wait_for("d1").completed == ["d1"]
    for worker in prefills:
        assert worker.wait_for("p1").sent == ["p1"]
    assert_landed(decodes, order, kv)
    sent = sum(worker.mover.stats().sent_bytes for worker in prefills)
    assert sent == sum(worker.mover.stats().received_bytes for worker in decodes)


def test_what_one_rank_refuses_no_rank_keeps(simulated_fleet: Fleet) -> None:
    source = replace(PLAIN, tensor_parallel_size=2)
    target = replace(source, stage_layers=(5,))
    prefills, decodes = simulated_fleet.ranks(source), simulated_fleet.ranks(target)
    load_all(prefills, decodes, 0)
    for worker in prefills:
        worker.prefill(make_ticket(), "p1", kv_of(source, 1, NUM_TOKENS), range(20))
    for worker in decodes:
        assert worker.wait_for("d1").failed == ["d1"]
    for worker in prefills:
        assert worker.wait_for("p1").sent == ["p1"]


def test_a_load_that_fails_on_one_rank_frees_every_rank_of_the_source(fleet: Fleet) -> None:
    """Whoever has all of its part has it; the engine recomputes if one has not."""
    source = replace(PLAIN, tensor_parallel_size=2)
    prefills, decodes = fleet.ranks(source), fleet.ranks(source)
    load_all(prefills, decodes, 0)
    for worker in prefills:
        worker.compute(make_ticket(), "p1", kv_of(source, 1, NUM_TOKENS), (0, 30), range(20))
    assert decodes[0].mover.revoke(make_ticket(), "the gateway says so")
    for worker in prefills:
        worker.end(make_ticket(), "p1", is_prefilled=False)
        assert worker.wait_for("p1").sent == ["p1"]
    for worker in decodes:
        assert worker.wait_for("d1").failed == ["d1"]
