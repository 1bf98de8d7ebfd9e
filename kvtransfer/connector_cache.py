"""The paged cache of a vLLM engine rank, through torch.

vLLM hands out every layer as a view whose logical axes are [block, head, token, content],
however the backend lays it out (vllm/v1/kv_cache_layout.py). So these copies fit all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch

from kvtransfer.errors import LayoutUnsupported
from kvtransfer.layout import KvLayout
from kvtransfer.staging import Slot


def layout_of(
    caches: dict[str, torch.Tensor], block_size: int, num_blocks: int, tp: int, pp: int
) -> KvLayout:
    """Raises LayoutUnsupported if the layers differ or are not addressed by token."""
    shapes = {tuple(cache.shape[1:]) for cache in caches.values()}
    dtypes = {cache.dtype for cache in caches.values()}
    if len(shapes) != 1 or len(dtypes) != 1:
        raise LayoutUnsupported(f"layers of different shape: {sorted(map(str, shapes))}")
    first = next(iter(caches.values()))
    if first.dim() != 4 or first.shape[0] != num_blocks or first.shape[2] != block_size:
        raise LayoutUnsupported(
            f"a layer of shape {tuple(first.shape)} for {num_blocks} blocks of {block_size} tokens"
        )
    _, heads, _, content = first.shape
    return KvLayout(
        block_size=block_size,
        num_layers=len(caches),
        num_heads=heads,
        content_bytes=content * first.element_size(),
        dtype=str(first.dtype).removeprefix("torch."),
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
    )


class TorchPagedCache:
    """See `PagedCache`. On a GPU all copies run on a stream of their own."""

    def __init__(self, caches: dict[str, torch.Tensor], layout: KvLayout) -> None:
        self.layout = layout
        self._layers = [_as_integers(cache) for cache in caches.values()]
        device = self._layers[0].device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._events: dict[int, torch.cuda.Event] = {}

    def mark_computed(self, layer: int) -> None:
        if self._stream is not None:
            event = torch.cuda.Event()
            event.record()
            self._events[layer] = event

    def pack(self, layer: int, block_ids: Sequence[int], out: Slot) -> None:
        cache = self._layers[layer]
        if self._stream is None:
            torch.index_select(cache, 0, _indices(block_ids, cache), out=_blocks(out, cache))
            return
        if event := self._events.get(layer):
            self._stream.wait_event(event)
        with torch.cuda.stream(self._stream):
            blocks = cache.index_select(0, _indices(block_ids, cache))
            _blocks(out, cache).copy_(blocks, non_blocking=True)
        self._stream.synchronize()

    def unpack(self, layer: int, block_ids: Sequence[int], data: Slot) -> None:
        cache = self._layers[layer]
        if self._stream is None:
            cache.index_copy_(0, _indices(block_ids, cache), _blocks(data, cache))
            return
        with torch.cuda.stream(self._stream):
            blocks = _blocks(data, cache).to(cache.device, non_blocking=True)
            cache.index_copy_(0, _indices(block_ids, cache), blocks)
        self._stream.synchronize()


def _as_integers(cache: torch.Tensor) -> torch.Tensor:
    """The same memory as integers: not every type of number can be copied by index.

    Raises LayoutUnsupported if a token's content is not in one piece.
    """
    for dtype in (torch.int64, torch.uint8):
        with contextlib.suppress(RuntimeError):
            return cache.view(dtype)
    raise LayoutUnsupported(f"a layer of strides {cache.stride()}")


def _indices(block_ids: Sequence[int], cache: torch.Tensor) -> torch.Tensor:
    return torch.tensor(block_ids, dtype=torch.long, device=cache.device)


def _blocks(wire: Slot, cache: torch.Tensor) -> torch.Tensor:
    """The staging bytes as blocks of the cache's shape and type."""
    return torch.from_numpy(wire).view(cache.dtype).view(-1, *cache.shape[1:])
