"""What lies where inside a block, found out by writing numbers through vLLM's own kernel.

vLLM describes every layer as [block, head, token, content]. GPU backends keep to it. The CPU
backend does not: all K of a head's share comes before all V, K transposed or in tiles, as it
suits the processor (vllm/v1/attention/backends/cpu_attn.py of vLLM 0.32).
"""

from __future__ import annotations

from typing import Any

import torch
from vllm import _custom_ops as ops

from kvtransfer.errors import LayoutUnsupported
from kvtransfer.interior import describe
from proto.layout import Part

# Small whole numbers that every type of KV, fp8 included, holds exactly.
_BASE = 4
_FLOAT8 = {"fp8_e5m2": torch.float8_e5m2, "fp8": torch.float8_e4m3fn}


def interior_of(layer: Any, cache: torch.Tensor, cache_dtype: str) -> tuple[Part, ...]:
    """Of a vLLM attention layer. Raises LayoutUnsupported if it follows no pattern we know."""
    if cache.device.type != "cpu" or not hasattr(layer, "isa"):
        return ()
    _, _, block_size, content = cache.shape
    order = torch.zeros(block_size * content, dtype=torch.long)
    index = torch.arange(block_size * content).view(block_size, content)
    place = 1
    while place < block_size * content:
        order += _written(layer.isa, index // place % _BASE, cache.dtype, cache_dtype) * place
        place *= _BASE
    if not torch.equal(order.sort().values, index.flatten()):
        raise LayoutUnsupported(f"blocks of the {layer.isa} kernel, whose order cannot be read")
    try:
        return describe(order.numpy())
    except ValueError as error:
        raise LayoutUnsupported(str(error)) from error


def _written(isa: str, numbers: torch.Tensor, dtype: torch.dtype, cache_dtype: str) -> torch.Tensor:
    """What one block's memory is, as numbers, after the kernel has stored `numbers` as K and V."""
    block_size, content = numbers.shape
    halves = numbers.view(block_size, 1, 2, content // 2)
    is_quantized = cache_dtype.startswith("fp8")
    computed = torch.bfloat16 if is_quantized else dtype
    key, value = (half.contiguous().to(computed) for half in halves.unbind(2))
    block = torch.zeros(1, 1, 2 * block_size, content // 2, dtype=dtype)
    ops.cpu_attn_reshape_and_cache(
        key,
        value,
        *block.chunk(2, dim=2),
        torch.arange(block_size),
        isa,
        kv_cache_dtype=cache_dtype,
    )
    if is_quantized:
        block = block.view(_FLOAT8.get(cache_dtype, torch.float8_e4m3fn))
    return block.flatten().to(torch.float32).long()
