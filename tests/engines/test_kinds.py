"""Models with other kinds of KV cache than plain grouped-query attention."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.conftest import StartEngine
from tests.engines.test_unequal import assert_hands_over

LENGTHS = (2, 65, 300)
SMALL_BLOCKS = {"block_size": 64}


@pytest.mark.system
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("model", "source", "target"),
    [
        pytest.param("deepseek", {}, SMALL_BLOCKS, id="mla"),
        pytest.param("mixtral", {}, SMALL_BLOCKS, id="moe"),
        pytest.param("llama", {"kv_cache_dtype": "fp8"}, SMALL_BLOCKS, id="fp8-cache"),
    ],
)
def test_kv_of_every_kind_moves(
    start: StartEngine, model: str, source: dict[str, Any], target: dict[str, Any]
) -> None:
    quantized = {key: source[key] for key in source.keys() & {"kv_cache_dtype"}}
    prefill, decode = start(model, **source), start(model, **target, **quantized)
    assert_hands_over(prefill, decode, LENGTHS)
