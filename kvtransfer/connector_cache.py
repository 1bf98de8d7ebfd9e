"""The paged cache of a vLLM engine rank, through torch.

vLLM hands out every layer as a view whose axes are [block, head, token, content], however the
backend lays it out (vllm/v1/kv_cache_layout.py). So these copies fit all of them; what lies
where inside a head's share of a block is in the layout's `interior`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property

import torch

from kvtransfer.connector_strides import Gather, gather_by
from kvtransfer.connector_wire import Quantizer
from kvtransfer.cut import Cut
from kvtransfer.errors import LayoutUnsupported
from kvtransfer.incoming import Place
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class TorchPagedCache:
    """See `PagedCache`. On a GPU all copies run on a stream of their own.

    What moves unchanged is copied as integers, as wide as they can be.
    """

    def __init__(self, layers: Sequence[torch.Tensor], layout: KvLayout, rank: int = 0) -> None:
        self.layout = layout
        self.rank = rank
        self._numbers = list(layers)
        self._wide = [_as_integers(layer, torch.int64) for layer in layers]
        element = _WHOLE_NUMBERS[layout.element_bytes]
        self._elements = [_as_integers(layer, element) for layer in layers]
        self._gathers: dict[KvLayout, Gather] = {}
        self._quantizers: dict[KvLayout, Quantizer] = {}
        self._events: dict[int, torch.cuda.Event] = {}

    @property
    def device(self) -> torch.device:
        return self._numbers[0].device

    def mark_computed(self, layer: int) -> None:
        if self._stream is not None:
            event = torch.cuda.Event()
            event.record()
            self._events[layer] = event

    def pack(self, cut: Cut, out: Slot) -> None:
        if self._stream is None:
            self._pack(cut, _tensor(out))
            return
        if event := self._events.get(cut.layer):
            self._stream.wait_event(event)
        with torch.cuda.stream(self._stream):
            self._pack(cut, _tensor(out))
        self._stream.synchronize()

    def unpack(self, place: Place, wire: WireFormat, data: Slot) -> None:
        if self._stream is None:
            self._unpack(place, wire, _tensor(data))
            return
        with torch.cuda.stream(self._stream):
            self._unpack(place, wire, _tensor(data))
        self._stream.synchronize()

    @cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        return torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def _pack(self, cut: Cut, out: torch.Tensor) -> None:
        if cut.wire is WireFormat.RAW and cut.conversion.gather is None:
            self._copy_blocks(cut, out)
            return
        blocks = self._converted(cut)
        if cut.wire is WireFormat.RAW:
            out.copy_(_bytes(blocks), non_blocking=True)
            return
        numbers = blocks.view(self._numbers[0].dtype)
        encoded = self._quantizer(cut.target).encode(numbers, cut.num_tokens, cut.wire)
        out.copy_(encoded.flatten(), non_blocking=True)

    def _copy_blocks(self, cut: Cut, out: torch.Tensor) -> None:
        cache = self._heads(self._wide[cut.layer], cut.heads)
        blocks = out.view(cache.dtype).view(-1, *cache.shape[1:])
        if cache.is_cuda:
            blocks.copy_(cache.index_select(0, self._indices(cut.block_ids)), non_blocking=True)
        else:
            torch.index_select(cache, 0, self._indices(cut.block_ids), out=blocks)

    def _converted(self, cut: Cut) -> torch.Tensor:
        """The target's blocks as whole numbers: (blocks, heads, elements)."""
        cache = self._heads(self._elements[cut.layer], cut.heads)
        blocks = cache.index_select(0, self._indices(cut.block_ids)).flatten(2)
        conversion, num_heads = cut.conversion, len(cut.heads)
        if conversion.gather is None:
            return blocks
        groups = blocks.view(-1, conversion.num_in, num_heads, blocks.shape[-1])
        memory = groups.transpose(1, 2).flatten(2)
        found = self._gather(cut)(memory)
        split = found.view(len(groups), num_heads, conversion.num_out, -1).transpose(1, 2)
        return split.flatten(0, 1)[cut.skip : cut.skip + cut.num_blocks].contiguous()

    def _unpack(self, place: Place, wire: WireFormat, data: torch.Tensor) -> None:
        indices = self._indices(place.block_ids)
        if wire is WireFormat.RAW:
            cache = self._heads(self._wide[place.layer], place.heads)
            blocks = data.view(cache.dtype).view(len(indices), *cache.shape[1:])
            cache.index_copy_(0, indices, blocks.to(cache.device, non_blocking=True))
            return
        cache = self._heads(self._numbers[place.layer], place.heads)
        coded = data.view(len(indices), len(place.heads), -1).to(cache.device, non_blocking=True)
        numbers = self._quantizer(self.layout).decode(coded, cache.dtype, wire)
        cache.index_copy_(0, indices, numbers.view(len(indices), *cache.shape[1:]))

    def _heads(self, cache: torch.Tensor, heads: range) -> torch.Tensor:
        return cache[:, heads.start : heads.stop]

    def _indices(self, block_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(block_ids, dtype=torch.long, device=self.device)

    def _gather(self, cut: Cut) -> Gather:
        if cut.target not in self._gathers:
            assert cut.conversion.gather is not None
            self._gathers[cut.target] = gather_by(cut.conversion.gather, self.device)
        return self._gathers[cut.target]

    def _quantizer(self, layout: KvLayout) -> Quantizer:
        if layout not in self._quantizers:
            self._quantizers[layout] = Quantizer.of(layout, self.device)
        return self._quantizers[layout]


def _as_integers(cache: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same memory as integers: not every type of number can be copied by index.

    Raises LayoutUnsupported if a token's content is not in one piece.
    """
    for each in (dtype, torch.int32, torch.int16, torch.uint8):
        with contextlib.suppress(RuntimeError):
            return cache.view(each)
    raise LayoutUnsupported(f"a layer of strides {cache.stride()}")


def _tensor(slot: Slot | torch.Tensor) -> torch.Tensor:
    """A slot in a GPU's memory is one already."""
    return slot if isinstance(slot, torch.Tensor) else torch.from_numpy(slot)


def _bytes(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.contiguous().view(torch.uint8).flatten()
