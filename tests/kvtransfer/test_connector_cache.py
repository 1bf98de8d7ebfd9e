from __future__ import annotations

import numpy as np
import pytest
import torch

from kvtransfer.connector_cache import TorchPagedCache, layout_of
from kvtransfer.errors import LayoutUnsupported

NUM_BLOCKS, HEADS, BLOCK, CONTENT = 12, 3, 4, 16
SHAPE = (NUM_BLOCKS, HEADS, BLOCK, CONTENT)

# How backends lay a block out, as the order of (block, head, token, content) in memory.
ORDERS = [
    pytest.param((0, 1, 2, 3), id="block-head-token"),
    pytest.param((0, 2, 1, 3), id="block-token-head"),
    pytest.param((1, 0, 2, 3), id="head-first"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float8_e4m3fn]


def make_caches(
    order: tuple[int, ...] = (0, 1, 2, 3), dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Two layers, seen as (block, head, token, content) however they lie."""
    generator = torch.Generator().manual_seed(seed)
    caches = {}
    for layer in range(2):
        sizes = [SHAPE[axis] for axis in order]
        memory = torch.randn(sizes, generator=generator).to(dtype)
        inverse = [order.index(axis) for axis in range(4)]
        caches[f"layer.{layer}"] = memory.permute(inverse)
    return caches


def make_cache(caches: dict[str, torch.Tensor]) -> TorchPagedCache:
    return TorchPagedCache(caches, layout_of(caches, BLOCK, NUM_BLOCKS, 1, 1))


def test_the_layout_is_read_from_the_tensors() -> None:
    layout = layout_of(make_caches(dtype=torch.bfloat16), BLOCK, NUM_BLOCKS, 2, 1)
    assert (layout.block_size, layout.num_layers, layout.num_heads) == (BLOCK, 2, HEADS)
    assert (layout.content_bytes, layout.dtype) == (2 * CONTENT, "bfloat16")
    assert layout.tensor_parallel_size == 2
    assert layout.block_bytes == HEADS * BLOCK * CONTENT * 2


@pytest.mark.parametrize(
    "caches",
    [
        pytest.param({"a": torch.zeros(SHAPE), "b": torch.zeros((12, 3, 4, 8))}, id="shapes"),
        pytest.param({"a": torch.zeros(SHAPE), "b": torch.zeros(SHAPE).half()}, id="dtypes"),
        pytest.param({"a": torch.zeros((2, 12, 3, 4, 8))}, id="five-axes"),
        pytest.param({"a": torch.zeros((11, 3, 4, 16))}, id="other-number-of-blocks"),
        pytest.param({"a": torch.zeros((12, 3, 8, 16))}, id="other-block-size"),
    ],
)
def test_what_is_not_blocks_of_tokens_is_refused(caches: dict[str, torch.Tensor]) -> None:
    with pytest.raises(LayoutUnsupported):
        layout_of(caches, BLOCK, NUM_BLOCKS, 1, 1)


def test_content_that_lies_in_pieces_is_refused() -> None:
    caches = {"a": torch.zeros((12, 3, 16, 4)).transpose(2, 3)}
    with pytest.raises(LayoutUnsupported, match="strides"):
        make_cache(caches)


@pytest.mark.parametrize("content", [1, 2, 6, 8])
def test_content_of_any_size_arrives(content: int) -> None:
    caches = {"a": torch.randint(0, 256, (12, 3, 4, content)).to(torch.uint8)}
    cache = make_cache(caches)
    wire = np.zeros(cache.layout.block_bytes, np.uint8)
    cache.pack(0, (3,), wire)
    cache.unpack(0, (11,), wire)
    assert torch.equal(caches["a"][11], caches["a"][3])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("there", ORDERS)
@pytest.mark.parametrize("here", ORDERS)
def test_blocks_arrive_whatever_lies_where(
    here: tuple[int, ...], there: tuple[int, ...], dtype: torch.dtype
) -> None:
    source, target = make_caches(here, dtype, seed=1), make_caches(there, dtype, seed=2)
    before = target["layer.1"].clone()
    blocks_here, blocks_there = (7, 0, 3), (1, 9, 2)
    sender, receiver = make_cache(source), make_cache(target)
    assert sender.layout.fingerprint == receiver.layout.fingerprint
    wire = np.zeros(3 * sender.layout.block_bytes, np.uint8)
    sender.pack(1, blocks_here, wire)
    receiver.unpack(1, blocks_there, wire)
    for from_block, to_block in zip(blocks_here, blocks_there, strict=True):
        arrived = target["layer.1"][to_block].contiguous().view(torch.uint8)
        assert torch.equal(arrived, source["layer.1"][from_block].contiguous().view(torch.uint8))
    others = [block for block in range(NUM_BLOCKS) if block not in blocks_there]
    for block in others:
        kept = target["layer.1"][block].contiguous().view(torch.uint8)
        assert torch.equal(kept, before[block].contiguous().view(torch.uint8))


def test_packing_leaves_the_cache_and_the_other_layer_alone() -> None:
    caches = make_caches()
    before = {name: cache.clone() for name, cache in caches.items()}
    cache = make_cache(caches)
    wire = np.zeros(2 * cache.layout.block_bytes, np.uint8)
    cache.mark_computed(0)
    cache.pack(0, (4, 5), wire)
    for name in caches:
        assert torch.equal(caches[name], before[name])
    cache.unpack(0, (6, 8), wire)
    assert torch.equal(caches["layer.1"], before["layer.1"])
    assert torch.equal(caches["layer.0"][6], caches["layer.0"][4])
