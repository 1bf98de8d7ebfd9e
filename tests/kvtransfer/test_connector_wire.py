from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kvtransfer.connector_wire import Quantizer
from kvtransfer.wire import SCALE_BYTES, WireFormat, head_bytes
from proto.layout import KvLayout
from tests.kvtransfer.builders import transposed

LAYOUT = KvLayout(4, 2, 16, 8, "float32", (1,))
LATENT = replace(LAYOUT, num_heads=1, key_size=16)
FORMS = [WireFormat.FP8, WireFormat.INT8]
# Of the largest value: half a step of e4m3 below it (3 bits of mantissa), half a step of int8.
ERRORS = {WireFormat.FP8: 1 / 28, WireFormat.INT8: 1 / 254}


def make_blocks(layout: KvLayout = LAYOUT, num_blocks: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = layout.block_size * layout.content_size
    return torch.randn((num_blocks, layout.num_heads, size), generator=generator)


def there_and_back(
    blocks: torch.Tensor, wire: WireFormat, layout: KvLayout = LAYOUT, num_tokens: int = 12
) -> torch.Tensor:
    quantizer = Quantizer.of(layout, torch.device("cpu"))
    encoded = quantizer.encode(blocks, num_tokens, wire)
    assert encoded.dtype == torch.uint8
    assert encoded.shape == (*blocks.shape[:2], head_bytes(layout, wire))
    return quantizer.decode(encoded, blocks.dtype, wire)


@pytest.mark.parametrize("wire", FORMS)
@pytest.mark.parametrize("layout", [LAYOUT, LATENT], ids=["key-and-value", "latent"])
def test_numbers_come_back_nearly_the_same(layout: KvLayout, wire: WireFormat) -> None:
    blocks = make_blocks(layout)
    error = (there_and_back(blocks, wire, layout) - blocks).abs()
    assert (error <= ERRORS[wire] * blocks.abs().max()).all()
    assert error.any()


@pytest.mark.parametrize("wire", FORMS)
def test_the_largest_numbers_come_back_exactly(wire: WireFormat) -> None:
    blocks = torch.zeros(1, 2, 64)
    blocks[0, 0, :3] = torch.tensor([1.75, -1.75, 0.0])
    torch.testing.assert_close(there_and_back(blocks, wire, num_tokens=4), blocks)


@pytest.mark.parametrize("wire", FORMS)
@pytest.mark.parametrize("is_transposed", [False, True], ids=["token-by-token", "transposed"])
def test_large_keys_do_not_blur_small_values(wire: WireFormat, is_transposed: bool) -> None:
    """Each has a scale of its own, wherever it lies."""
    layout = replace(LAYOUT, interior=transposed(4, 16)) if is_transposed else LAYOUT
    blocks = make_blocks(layout)
    is_key = torch.arange(64) < 32 if is_transposed else torch.arange(64) % 16 < 8
    blocks[..., is_key] *= 1000
    values = blocks[..., ~is_key]
    error = (there_and_back(blocks, wire, layout)[..., ~is_key] - values).abs()
    assert (error <= ERRORS[wire] * values.abs().max()).all()


@pytest.mark.parametrize("wire", FORMS)
def test_blocks_and_heads_do_not_blur_each_other(wire: WireFormat) -> None:
    blocks = make_blocks()
    blocks[0] *= 1e4
    blocks[1, 1] *= 1e-4
    error = (there_and_back(blocks, wire) - blocks).abs().amax(dim=-1)
    assert (error <= ERRORS[wire] * blocks.abs().amax(dim=-1)).all()


@pytest.mark.parametrize("wire", FORMS)
@pytest.mark.parametrize("rest", [1e30, float("inf"), float("nan")], ids=str)
def test_what_has_not_been_computed_counts_for_nothing(wire: WireFormat, rest: float) -> None:
    """The last block is not full; what was there before may be anything."""
    blocks = make_blocks()
    expected = there_and_back(blocks, wire, num_tokens=9)
    blocks[2, :, 16:] = rest
    assert torch.equal(there_and_back(blocks, wire, num_tokens=9), expected)
    assert not expected[2, :, 16:].any()


@pytest.mark.parametrize("wire", FORMS)
def test_zeros_stay_zeros(wire: WireFormat) -> None:
    assert not there_and_back(torch.zeros(3, 2, 64), wire).any()


def test_encoding_leaves_its_input_alone() -> None:
    blocks = make_blocks()
    before = blocks.clone()
    there_and_back(blocks, WireFormat.FP8, num_tokens=9)
    assert torch.equal(blocks, before)


def test_scales_lie_before_the_numbers() -> None:
    blocks = torch.zeros(1, 2, 64)
    blocks[..., 0], blocks[..., 8] = 127.0, 254.0
    quantizer = Quantizer.of(LAYOUT, torch.device("cpu"))
    encoded = quantizer.encode(blocks, 4, WireFormat.INT8)[0, 0]
    assert encoded[: 2 * SCALE_BYTES].view(torch.float32).tolist() == [1.0, 2.0]
    assert encoded[2 * SCALE_BYTES :].view(torch.int8)[[0, 8]].tolist() == [127, 127]
