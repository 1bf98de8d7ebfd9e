from __future__ import annotations

from dataclasses import replace

import pytest

from kvtransfer.cut import Cut
from kvtransfer.delivery import Stretch, deliver
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout
from tests.kvtransfer.builders import LAYOUT, make_demand, make_source

SOURCE = replace(LAYOUT, num_heads=4, stage_layers=(2, 3), tensor_parallel_size=2)
BLOCKS = (70, 71, 72, 73, 74)


def make_cut(
    stretch: Stretch, target: KvLayout = SOURCE, num_tokens: int = 18, rank: int = 3, to: int = 3
) -> Cut:
    """Of rank `rank` for rank `to`."""
    demand = make_demand(num_tokens=num_tokens, layout=target, rank=to)
    delivery = deliver(make_source(SOURCE, rank), demand)
    return Cut.of(SOURCE.shard(rank), delivery, stretch, BLOCKS)


def test_layers_and_heads_are_counted_within_the_rank() -> None:
    cut = make_cut(Stretch(3, 1, 2))
    assert (cut.layer, cut.heads) == (1, range(2))
    one = replace(SOURCE, tensor_parallel_size=4)
    cut = make_cut(Stretch(4, 1, 2), one, to=7)
    assert (cut.layer, cut.heads) == (2, range(1, 2))


@pytest.mark.parametrize(
    ("block_size", "stretch", "block_ids", "skip", "num_tokens"),
    [
        pytest.param(4, Stretch(2, 1, 2), [71, 72], 0, 8, id="equal"),
        pytest.param(4, Stretch(2, 3, 2), [73, 74], 0, 6, id="to-the-end"),
        pytest.param(2, Stretch(2, 3, 1), [71], 1, 2, id="half-of-a-block"),
        pytest.param(2, Stretch(2, 3, 4), [71, 72, 73], 1, 8, id="halves"),
        pytest.param(8, Stretch(2, 1, 1), [72, 73], 0, 8, id="two-blocks"),
        pytest.param(8, Stretch(2, 2, 1), [74, 74], 0, 2, id="past-the-end"),
        pytest.param(6, Stretch(2, 1, 1), [70, 71, 72], 1, 6, id="within-a-group"),
    ],
)
def test_whole_groups_are_cut_out_and_the_rest_is_skipped(
    block_size: int, stretch: Stretch, block_ids: list[int], skip: int, num_tokens: int
) -> None:
    cut = make_cut(stretch, replace(SOURCE, block_size=block_size))
    assert cut.block_ids == block_ids
    assert (cut.skip, cut.num_blocks, cut.num_tokens) == (skip, stretch.num_blocks, num_tokens)


def test_the_form_is_the_deliverys() -> None:
    delivery = deliver(
        make_source(SOURCE, 3, wire=WireFormat.INT8),
        make_demand(layout=SOURCE, rank=3, wire=WireFormat.INT8),
    )
    cut = Cut.of(SOURCE.shard(3), delivery, Stretch(2, 0, 1), BLOCKS)
    assert (cut.wire, cut.target) == (WireFormat.INT8, SOURCE)
