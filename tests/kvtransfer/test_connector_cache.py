from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kvtransfer.connector_cache import TorchPagedCache
from kvtransfer.conversion import conversion
from kvtransfer.cut import Cut
from kvtransfer.incoming import Place
from kvtransfer.numpy_cache import NumpyPagedCache
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout
from tests.kvtransfer.builders import tiled, transposed

NUM_BLOCKS, HEADS, BLOCK, CONTENT = 12, 3, 4, 16
LAYOUT = KvLayout(BLOCK, HEADS, CONTENT, CONTENT // 2, "float32", (2,))

# How backends lay a block out, as the order of (block, head, token, content) in memory.
ORDERS = [
    pytest.param((0, 1, 2, 3), id="block-head-token"),
    pytest.param((0, 2, 1, 3), id="block-token-head"),
    pytest.param((1, 0, 2, 3), id="head-first"),
    pytest.param((0, 1, 3, 2), id="content-in-pieces"),
]
DTYPES = [
    pytest.param(torch.float32, "float32", id="float32"),
    pytest.param(torch.bfloat16, "bfloat16", id="bfloat16"),
    pytest.param(torch.float8_e4m3fn, "fp8_e4m3", id="fp8"),
]


def make_layers(
    order: tuple[int, ...] = (0, 1, 2, 3),
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    layout: KvLayout = LAYOUT,
) -> list[torch.Tensor]:
    """Of one rank, seen as (block, head, token, content) however they lie."""
    generator = torch.Generator().manual_seed(seed)
    shard = layout.shard(0)
    shape = (NUM_BLOCKS, shard.num_heads, layout.block_size, layout.content_size)
    sizes = [shape[axis] for axis in order]
    inverse = [order.index(axis) for axis in range(4)]
    memories = [torch.randn(sizes, generator=generator) for _ in shard.layers]
    return [memory.to(dtype).permute(inverse) for memory in memories]


def make_cut(
    layer: int,
    block_ids: tuple[int, ...],
    layout: KvLayout = LAYOUT,
    heads: range = range(HEADS),
) -> Cut:
    """Whole blocks, between equal layouts."""
    num_tokens = len(block_ids) * layout.block_size
    convert = conversion(layout, layout)
    return Cut(layer, heads, block_ids, convert, 0, len(block_ids), num_tokens, layout)


def packed(cache: TorchPagedCache | NumpyPagedCache, cut: Cut) -> Slot:
    wire = np.zeros(cut.num_blocks * len(cut.heads) * cut.target.head_bytes, np.uint8)
    cache.pack(cut, wire)
    return wire


def raw(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.contiguous().view(torch.uint8)


@pytest.mark.parametrize("content", [1, 2, 6, 8])
def test_content_of_any_size_arrives(content: int) -> None:
    layer = torch.randint(0, 256, (12, 3, 4, content)).to(torch.uint8)
    layout = KvLayout(4, 3, content, content, "uint8", (1,))
    cache = TorchPagedCache([layer], layout)
    wire = packed(cache, make_cut(0, (3,), layout))
    cache.unpack(Place(0, range(3), (11,)), WireFormat.RAW, wire)
    assert torch.equal(layer[11], layer[3])


@pytest.mark.parametrize(("dtype", "name"), DTYPES)
@pytest.mark.parametrize("there", ORDERS)
@pytest.mark.parametrize("here", ORDERS)
@pytest.mark.parametrize("heads", [range(3), range(1, 2)], ids=["all-heads", "one-head"])
def test_blocks_arrive_whatever_lies_where(
    here: tuple[int, ...], there: tuple[int, ...], dtype: torch.dtype, name: str, heads: range
) -> None:
    source, target = make_layers(here, dtype, seed=1), make_layers(there, dtype, seed=2)
    layout = replace(LAYOUT, dtype=name)
    expected = raw(target[1].clone())
    blocks_here, blocks_there = (7, 0, 3), (1, 9, 2)
    wire = packed(TorchPagedCache(source, layout), make_cut(1, blocks_here, layout, heads))
    receiver = TorchPagedCache(target, layout)
    receiver.unpack(Place(1, heads, blocks_there), WireFormat.RAW, wire)
    for from_block, to_block in zip(blocks_here, blocks_there, strict=True):
        expected[to_block, heads] = raw(source[1])[from_block, heads]
    assert torch.equal(raw(target[1]), expected)


def test_packing_leaves_the_cache_and_the_other_layer_alone() -> None:
    layers = make_layers()
    before = [layer.clone() for layer in layers]
    cache = TorchPagedCache(layers, LAYOUT)
    cache.mark_computed(0)
    wire = packed(cache, make_cut(0, (4, 5)))
    for layer, kept in zip(layers, before, strict=True):
        assert torch.equal(layer, kept)
    cache.unpack(Place(0, range(HEADS), (6, 8)), WireFormat.RAW, wire)
    assert torch.equal(layers[1], before[1])
    assert torch.equal(layers[0][6], layers[0][4])


WIDE = replace(LAYOUT, block_size=8, interior=transposed(8, CONTENT))
TARGETS = [
    pytest.param(replace(LAYOUT, interior=transposed(BLOCK, CONTENT)), id="interior"),
    pytest.param(replace(LAYOUT, block_size=2), id="smaller"),
    pytest.param(replace(LAYOUT, block_size=6), id="no-multiple"),
    pytest.param(WIDE, id="larger-and-interior"),
    pytest.param(replace(LAYOUT, block_size=8, interior=tiled(8, CONTENT, 4)), id="tiled"),
]


@pytest.mark.parametrize(("dtype", "name"), DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_conversion_is_the_same_as_in_ordinary_memory(
    order: tuple[int, ...], target: KvLayout, dtype: torch.dtype, name: str
) -> None:
    source, target = replace(LAYOUT, dtype=name), replace(target, dtype=name)
    layers = make_layers(order, dtype)
    plain = NumpyPagedCache(source, NUM_BLOCKS)
    plain.blocks[:] = torch.stack([raw(layer).flatten(2) for layer in layers]).numpy()
    convert = conversion(source, target)
    for first, number in ((0, 1), (1, 2), (2, 1)):
        cut = Cut(
            layer=1,
            heads=range(1, HEADS),
            block_ids=convert.source_blocks([7, 2, 9, 0, 11], first, number),
            conversion=convert,
            skip=first - convert.groups(first, number).start * convert.num_out,
            num_blocks=number,
            num_tokens=number * target.block_size,
            target=target,
        )
        expected = packed(plain, cut)
        np.testing.assert_array_equal(packed(TorchPagedCache(layers, source), cut), expected)


@pytest.mark.parametrize("wire", [WireFormat.FP8, WireFormat.INT8])
@pytest.mark.parametrize("target", [pytest.param(LAYOUT, id="equal"), *TARGETS])
def test_a_smaller_form_arrives_as_nearly_the_same(target: KvLayout, wire: WireFormat) -> None:
    source_layers = make_layers(seed=1)
    target_layers = make_layers(seed=2, layout=target)
    convert = conversion(LAYOUT, target)
    exact = Cut(
        0,
        range(HEADS),
        convert.source_blocks([3, 1, 4, 8, 5], 0, 2),
        convert,
        0,
        2,
        2 * target.block_size,
        target,
    )
    source, there = TorchPagedCache(source_layers, LAYOUT), TorchPagedCache(target_layers, target)
    place = Place(0, range(HEADS), (6, 2))
    there.unpack(place, WireFormat.RAW, packed(source, exact))
    expected = target_layers[0][[6, 2]].clone()
    small = replace(exact, wire=wire)
    size = 2 * HEADS * (8 + target.block_size * CONTENT)
    slot = np.zeros(size, np.uint8)
    source.pack(small, slot)
    target_layers[0][[6, 2]] = 0
    there.unpack(place, wire, slot)
    largest = float(expected.abs().max())
    torch.testing.assert_close(target_layers[0][[6, 2]], expected, rtol=0.07, atol=largest / 250)
