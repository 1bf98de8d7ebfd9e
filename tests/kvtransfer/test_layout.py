from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kvtransfer.layout import KvLayout
from tests.kvtransfer.builders import LAYOUT

# SmolLM2-135M in bf16 with vLLM's CPU backend: 3 KV heads of 64 values, K and V.
SMOLLM2 = KvLayout(
    block_size=128, num_layers=30, num_heads=3, content_bytes=2 * 64 * 2, dtype="bfloat16"
)


def test_bytes_follow_from_the_shape() -> None:
    assert SMOLLM2.bytes_per_token == 23_040
    assert SMOLLM2.block_bytes == 98_304
    assert SMOLLM2.bytes_per_token * SMOLLM2.block_size == 30 * SMOLLM2.block_bytes


@pytest.mark.parametrize(
    ("num_tokens", "num_blocks", "whole"),
    [
        pytest.param(0, 0, 0, id="none"),
        pytest.param(1, 1, 0, id="one"),
        pytest.param(3, 1, 0, id="one-less"),
        pytest.param(4, 1, 4, id="exact"),
        pytest.param(5, 2, 4, id="one-more"),
        pytest.param(4000, 1000, 4000, id="many"),
    ],
)
def test_tokens_take_whole_blocks(num_tokens: int, num_blocks: int, whole: int) -> None:
    assert LAYOUT.num_blocks(num_tokens) == num_blocks
    assert LAYOUT.layer_bytes(num_tokens) == num_blocks * LAYOUT.block_bytes
    assert LAYOUT.whole_blocks(num_tokens) == whole


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(LAYOUT, block_size=8), id="block-size"),
        pytest.param(replace(LAYOUT, num_layers=4), id="layers"),
        pytest.param(replace(LAYOUT, num_heads=1), id="heads"),
        pytest.param(replace(LAYOUT, content_bytes=16), id="content"),
        pytest.param(replace(LAYOUT, dtype="bfloat16"), id="dtype"),
        pytest.param(replace(LAYOUT, tensor_parallel_size=2), id="tensor-parallel"),
        pytest.param(replace(LAYOUT, pipeline_parallel_size=2), id="pipeline-parallel"),
    ],
)
def test_any_difference_changes_the_fingerprint_and_the_summary(other: KvLayout) -> None:
    assert other.fingerprint != LAYOUT.fingerprint
    assert other.summary != LAYOUT.summary


def test_equal_layouts_have_equal_fingerprints() -> None:
    assert replace(LAYOUT).fingerprint == LAYOUT.fingerprint


def test_the_json_has_fields_and_derived_values() -> None:
    described = json.loads(SMOLLM2.to_json())
    assert described["block_size"] == 128
    assert described["num_layers"] == 30
    assert described["dtype"] == "bfloat16"
    assert described["bytes_per_token"] == 23_040
    assert described["fingerprint"] == SMOLLM2.fingerprint
    assert described["summary"] == SMOLLM2.summary
