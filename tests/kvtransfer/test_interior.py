from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvtransfer.interior import (
    describe,
    is_value,
    logical_of_positions,
    positions_of_logical,
    tokens_of_positions,
)
from proto.layout import KvLayout, Part
from tests.kvtransfer.builders import tiled, transposed
from tests.kvtransfer.paged import places

PLAIN = KvLayout(8, 1, 8, 4, "float32", (1,))
INTERIORS = [
    pytest.param((), id="token-by-token"),
    pytest.param(transposed(8, 8), id="keys-transposed"),
    pytest.param(tiled(8, 8, 4), id="tiles"),
    pytest.param((Part(0, ((8, 8), (4, 1))), Part(4, ((8, 8), (4, 1)))), id="keys-before-values"),
    pytest.param((Part(0, ((8, 1), (8, 8))),), id="all-transposed"),
    pytest.param((Part(63, ((64, -1),)),), id="backwards"),
]


@pytest.mark.parametrize("interior", INTERIORS)
def test_positions_are_as_plain_arithmetic_has_them(interior: tuple[Part, ...]) -> None:
    layout = replace(PLAIN, interior=interior)
    np.testing.assert_array_equal(positions_of_logical(layout).reshape(8, 8), places(layout))
    logical = logical_of_positions(layout)
    np.testing.assert_array_equal(logical[positions_of_logical(layout)], np.arange(64))


@pytest.mark.parametrize("interior", INTERIORS)
def test_a_description_comes_back_as_the_same_order(interior: tuple[Part, ...]) -> None:
    logical = logical_of_positions(replace(PLAIN, interior=interior))
    found = describe(logical)
    np.testing.assert_array_equal(logical_of_positions(replace(PLAIN, interior=found)), logical)
    assert len(found) <= len(interior)


@pytest.mark.parametrize(
    ("block_size", "content", "tile"), [(16, 8, 4), (32, 128, 16), (64, 64, 32), (128, 128, 16)]
)
def test_blocks_as_matrix_units_want_them_are_described(
    block_size: int, content: int, tile: int
) -> None:
    layout = KvLayout(block_size, 1, content, content // 2, "bfloat16", (1,))
    logical = logical_of_positions(replace(layout, interior=tiled(block_size, content, tile)))
    found = describe(logical)
    assert len(found) <= 4
    np.testing.assert_array_equal(logical_of_positions(replace(layout, interior=found)), logical)


@pytest.mark.parametrize("seed", range(50))
def test_any_order_of_digits_is_described(seed: int) -> None:
    """Up to eight equal stretches, each a mixed radix number whose digits lie in any order."""
    dice = np.random.default_rng(seed)
    logical = np.arange(1)
    for extent in dice.choice([2, 3, 4, 5], size=dice.integers(1, 4)):
        axes = np.arange(extent) * len(logical)
        grid = axes[:, None] + logical if dice.random() < 0.5 else logical[:, None] + axes
        logical = grid.ravel()
    num_parts = int(dice.choice([1, 2, 4, 8]))
    starts = dice.permutation(num_parts) * len(logical)
    logical = np.concatenate([start + logical for start in starts])
    layout = KvLayout(len(logical), 1, 1, 1, "uint8", (1,), interior=describe(logical))
    np.testing.assert_array_equal(logical_of_positions(layout), logical)


def test_the_logical_order_needs_no_description() -> None:
    assert describe(np.arange(64)) == ()


def test_what_follows_no_pattern_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no pattern"):
        describe(np.random.default_rng(0).permutation(256))


@pytest.mark.parametrize(
    "interior",
    [
        pytest.param((Part(0, ((8, 8), (4, 1), (2, 0))),), id="twice"),
        pytest.param((Part(1, ((64, 1),)),), id="past-the-end"),
        pytest.param((Part(-1, ((64, 1),)),), id="before-the-start"),
        pytest.param((Part(0, ((32, 1),)), Part(0, ((32, 1),))), id="the-same-part-twice"),
    ],
)
def test_an_interior_that_is_no_order_is_a_value_error(interior: tuple[Part, ...]) -> None:
    with pytest.raises(ValueError, match="no place, or two"):
        logical_of_positions(replace(PLAIN, interior=interior))


@pytest.mark.parametrize("interior", INTERIORS)
def test_tokens_and_values_are_known_by_position(interior: tuple[Part, ...]) -> None:
    layout = replace(PLAIN, interior=interior)
    tokens, values = tokens_of_positions(layout), is_value(layout)
    for token in range(8):
        np.testing.assert_array_equal(tokens[places(layout)[token]], token)
        np.testing.assert_array_equal(values[places(layout)[token]], [False] * 4 + [True] * 4)


def test_latent_kv_has_no_values() -> None:
    assert not is_value(replace(PLAIN, key_size=8)).any()
