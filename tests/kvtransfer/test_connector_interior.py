"""What vLLM's own CPU kernels write is what the description says, and can be converted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm import _custom_ops as ops

from kvtransfer.connector_cache import TorchPagedCache
from kvtransfer.connector_interior import interior_of
from kvtransfer.conversion import conversion
from kvtransfer.cut import Cut
from kvtransfer.errors import LayoutUnsupported
from kvtransfer.incoming import Place
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout
from tests.kvtransfer.builders import tiled, transposed
from tests.kvtransfer.paged import places

HEADS, HEAD_SIZE, NUM_TOKENS = 2, 64, 128
CONTENT = 2 * HEAD_SIZE
# The kernel, the number type and the tokens of a block. "amx" is what a processor with AMX
# would use; its order needs none.
KERNELS = [
    pytest.param("vec16", torch.bfloat16, 16, id="vec16"),
    pytest.param("vec", torch.float32, 128, id="vec-float32"),
    pytest.param("vec", torch.bfloat16, 64, id="vec"),
    pytest.param("amx", torch.bfloat16, 128, id="amx"),
    pytest.param("amx", torch.bfloat16, 32, id="amx-small"),
]


def make_layer(isa: str) -> SimpleNamespace:
    """What is read of vLLM's attention layer."""
    return SimpleNamespace(isa=isa)


def make_cache(dtype: torch.dtype, block_size: int) -> torch.Tensor:
    return torch.zeros(NUM_TOKENS // block_size, HEADS, block_size, CONTENT, dtype=dtype)


def make_layout(isa: str, cache: torch.Tensor) -> KvLayout:
    return KvLayout(
        block_size=cache.shape[2],
        num_heads=HEADS,
        content_size=CONTENT,
        key_size=HEAD_SIZE,
        dtype=str(cache.dtype).removeprefix("torch."),
        stage_layers=(1,),
        interior=interior_of(make_layer(isa), cache, "auto"),
    )


def make_tokens(dtype: torch.dtype) -> torch.Tensor:
    """(tokens, heads, K and V)"""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(NUM_TOKENS, HEADS, CONTENT, generator=generator).to(dtype)


def store(isa: str, cache: torch.Tensor, tokens: torch.Tensor) -> None:
    """As vLLM does, token i in slot i."""
    key, value = (half.contiguous() for half in tokens.split(HEAD_SIZE, dim=2))
    block_size = cache.shape[2]
    halves = cache.view(*cache.shape[:2], 2 * block_size, HEAD_SIZE).chunk(2, dim=2)
    slots = torch.arange(NUM_TOKENS)
    ops.cpu_attn_reshape_and_cache(key, value, *halves, slots, isa, kv_cache_dtype="auto")


@pytest.mark.parametrize(("isa", "dtype", "block_size"), KERNELS)
def test_every_number_lies_where_the_description_says(
    isa: str, dtype: torch.dtype, block_size: int
) -> None:
    cache, tokens = make_cache(dtype, block_size), make_tokens(dtype)
    store(isa, cache, tokens)
    where = torch.from_numpy(places(make_layout(isa, cache)))
    for token in range(NUM_TOKENS):
        block, within = divmod(token, block_size)
        found = cache[block].flatten(1)[:, where[within]]
        assert torch.equal(found, tokens[token])


def test_the_orders_are_those_that_other_tests_use() -> None:
    bf16 = torch.bfloat16
    assert make_layout("vec16", make_cache(bf16, 16)).interior == transposed(16, CONTENT)
    assert make_layout("amx", make_cache(bf16, 64)).interior == tiled(64, CONTENT, 16)


def pairs() -> list[tuple[str, int, str, int]]:
    kernels = [("vec16", 16), ("vec", 64), ("amx", 32), ("amx", 128)]
    return [(*here, *there) for here in kernels for there in kernels]


@pytest.mark.parametrize(("here", "block_here", "there", "block_there"), pairs())
def test_blocks_of_one_processor_become_those_of_another(
    here: str, block_here: int, there: str, block_there: int
) -> None:
    """As the other's own kernel would have written them."""
    tokens = make_tokens(torch.bfloat16)
    source, landed, expected = (
        make_cache(torch.bfloat16, size) for size in (block_here, block_there, block_there)
    )
    store(here, source, tokens)
    store(there, expected, tokens)
    layouts = make_layout(here, source), make_layout(there, landed)
    convert = conversion(*layouts)
    number = len(landed)
    blocks = convert.source_blocks(range(len(source)), 0, number)
    cut = Cut(0, range(HEADS), blocks, convert, 0, number, NUM_TOKENS, layouts[1])
    wire = np.zeros(number * HEADS * layouts[1].head_bytes, np.uint8)
    TorchPagedCache([source], layouts[0]).pack(cut, wire)
    place = Place(0, range(HEADS), tuple(range(number)))
    TorchPagedCache([landed], layouts[1]).unpack(place, WireFormat.RAW, wire)
    assert torch.equal(landed, expected)


@pytest.mark.parametrize("cache_dtype", ["fp8", "fp8_e4m3", "fp8_e5m2"])
def test_quantized_kv_has_an_order_too(cache_dtype: str) -> None:
    cache = make_cache(torch.uint8, 64)
    assert interior_of(make_layer("vec"), cache, cache_dtype) == transposed(64, CONTENT)


def test_a_backend_that_keeps_to_the_usual_order_needs_no_description() -> None:
    cache = make_cache(torch.bfloat16, 16)
    assert interior_of(SimpleNamespace(), cache, "auto") == ()
    assert interior_of(None, cache, "auto") == ()


def test_a_kernel_that_leaves_things_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "cpu_attn_reshape_and_cache", lambda *args, **more: None)
    with pytest.raises(LayoutUnsupported, match="vec16 kernel"):
        interior_of(make_layer("vec16"), make_cache(torch.bfloat16, 16), "auto")
