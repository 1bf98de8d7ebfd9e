"""Parts of memory that a mixed radix number describes, as torch sees and copies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch

from kvtransfer.interior import Positions, parts_of
from proto.layout import Part

# From and to (groups, heads, elements).
Gather = Callable[[torch.Tensor], torch.Tensor]


def strided(memory: torch.Tensor, part: Part) -> torch.Tensor:
    """A view on the last axis of `memory`, (groups, heads, elements): (groups, heads, digits…)."""
    outer, inner, element = memory.stride()
    assert element == 1, "the elements lie next to each other"
    return memory.as_strided(
        (*memory.shape[:2], *(extent for extent, _ in part.digits)),
        (outer, inner, *(stride for _, stride in part.digits)),
        memory.storage_offset() + part.start,
    )


def gather_by(positions: Positions, device: torch.device) -> Gather:
    """Takes the elements at these positions: by strides, or one by one if they have no pattern."""
    with suppress(ValueError):
        parts = parts_of(positions)
        if all(stride > 0 for part in parts for _, stride in part.digits):  # torch has no others
            return partial(gathered, parts=parts)
    return partial(torch.index_select, dim=2, index=torch.from_numpy(positions).to(device))


def gathered(memory: torch.Tensor, parts: Sequence[Part]) -> torch.Tensor:
    """The elements that the parts name, one part after the other."""
    found = memory.new_empty((*memory.shape[:2], sum(part.size for part in parts)))
    first = 0
    for part in parts:
        source = strided(memory, part)
        found[:, :, first : first + part.size].view(source.shape).copy_(source)
        first += part.size
    return found
