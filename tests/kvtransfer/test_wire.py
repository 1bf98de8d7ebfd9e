from __future__ import annotations

from dataclasses import replace

import pytest

from kvtransfer.wire import CODES, FORMATS, WireFormat, agree, head_bytes, num_scales
from tests.kvtransfer.builders import LAYOUT

RAW, FP8, INT8 = WireFormat.RAW, WireFormat.FP8, WireFormat.INT8


@pytest.mark.parametrize(
    ("asked", "offered", "dtype", "agreed"),
    [
        pytest.param(RAW, RAW, "float32", RAW, id="neither"),
        pytest.param(FP8, FP8, "bfloat16", FP8, id="both"),
        pytest.param(INT8, INT8, "float16", INT8, id="both-int8"),
        pytest.param(FP8, RAW, "float32", RAW, id="only-the-receiver"),
        pytest.param(RAW, FP8, "float32", RAW, id="only-the-sender"),
        pytest.param(FP8, INT8, "float32", RAW, id="different-ones"),
        pytest.param(FP8, FP8, "fp8_e4m3", RAW, id="quantized-already"),
        pytest.param(INT8, INT8, "uint8", RAW, id="no-numbers"),
    ],
)
def test_a_smaller_form_needs_both_sides_and_floats(
    asked: WireFormat, offered: WireFormat, dtype: str, agreed: WireFormat
) -> None:
    assert agree(asked, offered, replace(LAYOUT, dtype=dtype)) is agreed


def test_every_form_has_a_code_of_its_own() -> None:
    assert {FORMATS[CODES[wire]] for wire in WireFormat} == set(WireFormat)


@pytest.mark.parametrize(
    ("key_size", "scales"),
    [pytest.param(1, 2, id="key-and-value"), pytest.param(2, 1, id="latent"), (0, 1)],
)
def test_key_and_value_have_a_scale_each(key_size: int, scales: int) -> None:
    layout = replace(LAYOUT, key_size=key_size)
    assert num_scales(layout) == scales
    assert head_bytes(layout, FP8) == head_bytes(layout, INT8) == 4 * scales + 8


def test_raw_takes_what_the_block_takes() -> None:
    assert head_bytes(LAYOUT, RAW) == LAYOUT.head_bytes == 32
