from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvtransfer.conversion import Overlap, conversion, overlap
from proto.layout import KvLayout, Part
from tests.kvtransfer.builders import tiled, transposed
from tests.kvtransfer.paged import places

LAYOUT = KvLayout(8, 4, 8, 4, "float32", (6,))
LAYOUTS = [
    pytest.param(LAYOUT, id="plain"),
    pytest.param(replace(LAYOUT, interior=transposed(8, 8)), id="transposed"),
    pytest.param(replace(LAYOUT, interior=tiled(8, 8, 4)), id="tiled"),
    pytest.param(replace(LAYOUT, block_size=4), id="half"),
    pytest.param(replace(LAYOUT, block_size=12), id="half-more"),
    pytest.param(replace(LAYOUT, block_size=5), id="five"),
    pytest.param(replace(LAYOUT, block_size=16, interior=transposed(16, 8)), id="twice"),
]


@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_element_comes_from_where_it_lies(source: KvLayout, target: KvLayout) -> None:
    convert = conversion(source, target)
    num_tokens = convert.num_in * source.block_size
    assert num_tokens == convert.num_out * target.block_size
    memory = np.zeros(num_tokens * 8, np.int64)
    for token in range(num_tokens):
        block, within = divmod(token, source.block_size)
        memory[block * source.block_size * 8 + places(source)[within]] = token * 8 + np.arange(8)
    moved = memory if convert.gather is None else memory[convert.gather]
    for token in range(num_tokens):
        block, within = divmod(token, target.block_size)
        found = moved[block * target.block_size * 8 + places(target)[within]]
        np.testing.assert_array_equal(found, token * 8 + np.arange(8))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_blocks_are_copied_as_they_are(layout: KvLayout) -> None:
    same = conversion(layout, replace(layout, tensor_parallel_size=2, stage_layers=(4, 2)))
    assert (same.num_in, same.num_out, same.gather) == (1, 1, None)


def test_an_interior_that_is_none_is_a_value_error() -> None:
    bad = replace(LAYOUT, interior=(Part(0, ((64, 0),)),))
    with pytest.raises(ValueError, match="no place, or two"):
        conversion(LAYOUT, bad)


@pytest.mark.parametrize(
    ("source", "target", "first", "number", "groups", "blocks"),
    [
        pytest.param(8, 8, 1, 2, range(1, 3), [11, 12], id="equal"),
        pytest.param(8, 4, 3, 2, range(1, 3), [11, 12], id="to-halves"),
        pytest.param(4, 8, 1, 1, range(1, 2), [12, 13], id="to-doubles"),
        pytest.param(8, 12, 1, 1, range(1), [10, 11, 12], id="within-a-group"),
        pytest.param(8, 12, 1, 2, range(2), [10, 11, 12, 13, 14, 14], id="past-the-end"),
        pytest.param(4, 16, 1, 1, range(1, 2), [14, 14, 14, 14], id="mostly-past-the-end"),
    ],
)
def test_whole_groups_of_blocks_are_taken(
    source: int, target: int, first: int, number: int, groups: range, blocks: list[int]
) -> None:
    convert = conversion(replace(LAYOUT, block_size=source), replace(LAYOUT, block_size=target))
    assert convert.groups(first, number) == groups
    assert convert.source_blocks(range(10, 15), first, number) == blocks


def engine(tensor: int, *stages: int, heads: int = 4) -> KvLayout:
    return replace(LAYOUT, num_heads=heads, tensor_parallel_size=tensor, stage_layers=stages)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(engine(1, 6), engine(1, 6), id="one-to-one"),
        pytest.param(engine(2, 6), engine(1, 6), id="two-to-one"),
        pytest.param(engine(1, 6), engine(4, 6), id="one-to-four"),
        pytest.param(engine(4, 6), engine(2, 6), id="four-to-two"),
        pytest.param(engine(1, 3, 3), engine(1, 6), id="stages-to-one"),
        pytest.param(engine(2, 5, 1), engine(4, 2, 2, 2), id="unequal-stages"),
        pytest.param(engine(8, 6, heads=2), engine(1, 6, heads=2), id="replicas-to-one"),
        pytest.param(engine(1, 6, heads=2), engine(8, 6, heads=2), id="one-to-replicas"),
        pytest.param(engine(4, 6, heads=2), engine(8, 6, heads=2), id="replicas-to-replicas"),
        pytest.param(engine(8, 6, heads=2), engine(4, 3, 3, heads=2), id="replicas-and-stages"),
        pytest.param(engine(4, 6, heads=1), engine(2, 4, 2, heads=1), id="latent"),
    ],
)
def test_every_rank_gets_each_head_of_each_layer_from_exactly_one(
    source: KvLayout, target: KvLayout
) -> None:
    for rank in range(target.num_ranks):
        shard = target.shard(rank)
        found: list[tuple[int, int]] = []
        for sender in range(source.num_ranks):
            shared = overlap(source.shard(sender), shard, rank)
            assert set(shared.layers) <= set(source.shard(sender).layers)
            assert set(shared.heads) <= set(source.shard(sender).heads)
            found += [(layer, head) for layer in shared.layers for head in shared.heads]
        assert sorted(found) == [(layer, head) for layer in shard.layers for head in shard.heads]


def test_replicas_share_the_work() -> None:
    source, target = engine(4, 6, heads=1), engine(4, 6, heads=1)
    pairs = [
        (sender, rank)
        for sender in range(4)
        for rank in range(4)
        if not overlap(source.shard(sender), target.shard(rank), rank).is_empty
    ]
    assert pairs == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_an_overlap_without_layers_or_heads_is_empty() -> None:
    assert Overlap(range(0), range(2)).is_empty
    assert Overlap(range(2), range(0)).is_empty
    assert not Overlap(range(2), range(1)).is_empty
