"""Where each element of a head's share of a block lies: from digits to positions, and back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from proto.layout import MAX_PARTS, KvLayout, Part

Positions = NDArray[np.int64]


@lru_cache(maxsize=64)
def logical_of_positions(layout: KvLayout) -> Positions:
    """For each position in memory its index in the logical order: token * content + element.

    Raises ValueError unless every element has exactly one place.
    """
    size = layout.block_size * layout.content_size
    if not layout.interior:
        return np.arange(size, dtype=np.int64)
    logical = np.concatenate([_expand(part) for part in layout.interior])
    seen = np.zeros(size, bool)
    seen[logical[(logical >= 0) & (logical < size)]] = True
    if not seen.all():
        raise ValueError("the interior of a block has no place, or two, for an element")
    return logical


@lru_cache(maxsize=64)
def positions_of_logical(layout: KvLayout) -> Positions:
    """The reverse: for each index in the logical order its position in memory."""
    return np.argsort(logical_of_positions(layout))


def tokens_of_positions(layout: KvLayout) -> Positions:
    """For each position the token of the block that it belongs to."""
    return logical_of_positions(layout) // layout.content_size


def is_value(layout: KvLayout) -> NDArray[np.bool_]:
    """For each position whether it holds V, and not K."""
    mask: NDArray[np.bool_] = logical_of_positions(layout) % layout.content_size >= layout.key_size
    return mask


def describe(logical: Positions) -> tuple[Part, ...]:
    """The shortest description that was found of a permutation; empty if it is the identity.

    Raises ValueError if there is none.
    """
    return () if np.array_equal(logical, np.arange(len(logical))) else parts_of(logical)


def parts_of(logical: Positions) -> tuple[Part, ...]:
    """The shortest description that was found of any numbers.

    Looks for one mixed radix number, then for one in each of 2, 3, … equal stretches. Raises
    ValueError if there is none.
    """
    for num_parts in range(1, MAX_PARTS + 1):
        if len(logical) % num_parts == 0:
            parts = [_describe(stretch) for stretch in np.split(logical, num_parts)]
            found = tuple(part for part in parts if part is not None)
            if len(found) == num_parts:
                return found
    raise ValueError("the interior of a block follows no pattern that we know")


def _expand(part: Part) -> Positions:
    logical = np.full(1, part.start, np.int64)
    for extent, stride in part.digits:
        logical = (logical[:, None] + np.arange(extent, dtype=np.int64) * stride).ravel()
    return logical


def _describe(logical: Positions) -> Part | None:
    """Finds the digits from the fastest on: how far does the first step repeat itself?"""
    start, rest = int(logical[0]), logical
    digits: list[tuple[int, int]] = []
    while len(rest) > 1:
        stride = int(rest[1] - rest[0])
        steps = np.flatnonzero(np.diff(rest) != stride)
        extent = int(steps[0]) + 1 if len(steps) else len(rest)
        if len(rest) % extent:
            return None
        digits.insert(0, (extent, stride))
        rest = rest[::extent]
    part = Part(start, tuple(digits))
    return part if np.array_equal(_expand(part), logical) else None
