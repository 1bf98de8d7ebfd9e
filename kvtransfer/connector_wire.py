"""KV as one byte an element, and back, by torch.

For every head of every block K and V have a scale each, the largest absolute value over the
largest that the type holds: e4m3 as in "FP8 Formats for Deep Learning" (arXiv:2209.05433),
int8 symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kvtransfer.connector_strides import strided
from kvtransfer.interior import is_value, parts_of, tokens_of_positions
from kvtransfer.wire import SCALE_BYTES, WireFormat, num_scales
from proto.layout import KvLayout, Part

_TYPES = {WireFormat.FP8: torch.float8_e4m3fn, WireFormat.INT8: torch.int8}
_LARGEST = {WireFormat.FP8: 448.0, WireFormat.INT8: 127.0}
_SMALLEST_SCALE = 1e-30


@dataclass(frozen=True, slots=True)
class Quantizer:
    """For the blocks of one layout. `halves` say where K is, and V, if any."""

    halves: tuple[tuple[Part, ...], ...]
    tokens: torch.Tensor
    block_size: int

    @classmethod
    def of(cls, layout: KvLayout, device: torch.device) -> Quantizer:
        values = is_value(layout)
        halves = (~values, values) if num_scales(layout) == 2 else (np.ones_like(values),)
        return cls(
            tuple(parts_of(np.flatnonzero(half)) for half in halves),
            torch.from_numpy(tokens_of_positions(layout)).to(device),
            layout.block_size,
        )

    def encode(self, blocks: torch.Tensor, num_tokens: int, wire: WireFormat) -> torch.Tensor:
        """`blocks` has the shape (blocks, heads, elements); the tokens from `num_tokens` on have
        not been computed and count for nothing. Returns (blocks, heads, bytes).
        """
        numbers = self._without_rest(blocks.to(torch.float32, copy=True), num_tokens)
        scales = torch.stack([self._scale(numbers, half, wire) for half in self.halves], dim=-1)
        self._multiply(numbers, 1 / scales)
        if wire is WireFormat.INT8:
            numbers.round_()
        small = numbers.to(_TYPES[wire]).view(torch.uint8)
        return torch.cat([scales.view(torch.uint8), small], dim=-1)

    def decode(self, data: torch.Tensor, dtype: torch.dtype, wire: WireFormat) -> torch.Tensor:
        """The reverse: (blocks, heads, bytes) to (blocks, heads, elements) of `dtype`."""
        cut = len(self.halves) * SCALE_BYTES
        scales = data[..., :cut].contiguous().view(torch.float32)
        numbers = data[..., cut:].contiguous().view(_TYPES[wire]).to(torch.float32)
        self._multiply(numbers, scales)
        return numbers.to(dtype)

    def _multiply(self, numbers: torch.Tensor, factors: torch.Tensor) -> None:
        """In place; `factors` has one for each block, head and half."""
        for factor, half in zip(factors.unbind(-1), self.halves, strict=True):
            for part in half:
                view = strided(numbers, part)
                view *= factor.reshape(*factor.shape, *[1] * len(part.digits))

    def _without_rest(self, numbers: torch.Tensor, num_tokens: int) -> torch.Tensor:
        num_whole, rest = divmod(num_tokens, self.block_size)
        if num_whole < len(numbers):
            numbers[num_whole, :, self.tokens >= rest] = 0
        return numbers

    def _scale(self, numbers: torch.Tensor, half: Sequence[Part], wire: WireFormat) -> torch.Tensor:
        views = [strided(numbers, part) for part in half]
        largest = [view.abs().amax(dim=tuple(range(2, view.dim()))) for view in views]
        return (torch.stack(largest).amax(dim=0) / _LARGEST[wire]).clamp_min(_SMALLEST_SCALE)
