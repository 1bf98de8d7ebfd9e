"""The KV layout of a vLLM engine, as one of its ranks finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from vllm.distributed.utils import get_pp_indices

from kvtransfer.connector_interior import interior_of
from kvtransfer.errors import LayoutUnsupported
from proto.layout import KvLayout

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig


def layout_of(
    config: VllmConfig, kv_config: KVCacheConfig, caches: dict[str, torch.Tensor]
) -> KvLayout:
    """`caches` are the rank's layers in their order.

    Raises LayoutUnsupported if the layers differ or are not addressed by token.
    """
    parallel = config.parallel_config
    if parallel.decode_context_parallel_size * parallel.prefill_context_parallel_size > 1:
        raise LayoutUnsupported("a KV cache whose tokens are spread over ranks")
    if len(kv_config.kv_cache_groups) != 1:
        raise LayoutUnsupported(f"{len(kv_config.kv_cache_groups)} groups of KV caches")
    spec = kv_config.kv_cache_groups[0].kv_cache_spec
    name, first = next(iter(caches.items()))
    heads, block_size, content = _uniform_shape(list(caches.values()), kv_config.num_blocks)
    cache_dtype = config.cache_config.cache_dtype
    layer = config.compilation_config.static_forward_context.get(name)
    try:
        layout = KvLayout(
            block_size=block_size,
            num_heads=_total_heads(config, spec, heads),
            content_size=content,
            key_size=min(getattr(spec, "head_size", content), content),
            dtype=_dtype(first.dtype, cache_dtype),
            stage_layers=_stage_layers(config, len(caches)),
            tensor_parallel_size=parallel.tensor_parallel_size,
            interior=interior_of(layer, first, cache_dtype),
        )
    except ValueError as error:
        raise LayoutUnsupported(str(error)) from error
    if layout.shard(parallel.rank).num_heads != heads:
        raise LayoutUnsupported(f"{heads} KV heads on a rank where {layout.num_heads} are shared")
    return layout


def _uniform_shape(layers: Sequence[torch.Tensor], num_blocks: int) -> tuple[int, int, int]:
    """Heads, tokens and content of one block, in this rank."""
    shapes = {tuple(layer.shape) for layer in layers}
    if len(shapes) != 1 or len({layer.dtype for layer in layers}) != 1:
        raise LayoutUnsupported(f"layers of different shape: {sorted(map(str, shapes))}")
    (shape,) = shapes
    if len(shape) != 4 or shape[0] != num_blocks:
        raise LayoutUnsupported(f"a layer of shape {shape} for {num_blocks} blocks")
    _, heads, block_size, content = shape
    return heads, block_size, content


def _total_heads(config: VllmConfig, spec: object, heads: int) -> int:
    is_latent = getattr(spec, "head_size_v", None) == 0
    return heads if is_latent else config.model_config.get_total_num_kv_heads()


def _stage_layers(config: VllmConfig, num_layers: int) -> tuple[int, ...]:
    parallel = config.parallel_config
    size = parallel.pipeline_parallel_size
    if size == 1:
        return (num_layers,)
    total = config.model_config.get_total_num_hidden_layers()
    bounds = [get_pp_indices(total, stage, size) for stage in range(size)]
    stages = tuple(end - start for start, end in bounds)
    if stages[parallel.rank // parallel.tensor_parallel_size] != num_layers:
        raise LayoutUnsupported(f"{num_layers} layers with KV in a pipeline of {total}")
    return stages


def _dtype(dtype: torch.dtype, cache_dtype: str) -> str:
    if cache_dtype.startswith("fp8") and dtype.itemsize == 1:
        return "fp8_e5m2" if cache_dtype == "fp8_e5m2" else "fp8_e4m3"
    names = {torch.float8_e4m3fn: "fp8_e4m3", torch.float8_e5m2: "fp8_e5m2"}
    return names.get(dtype, str(dtype).removeprefix("torch."))
