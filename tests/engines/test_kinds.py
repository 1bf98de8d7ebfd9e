"""Models with other kinds of KV cache than plain grouped-query attention."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.conftest import StartEngine, make_prompt
from tests.engines.pair import hand_over
from tests.engines.test_unequal import assert_hands_over

LENGTHS = (2, 65, 300)
NUM_TOKENS = 70
SMALL_BLOCKS = {"block_size": 64}
TWO_RANKS = {"tensor_parallel_size": 2}
TWO_STAGES = {"pipeline_parallel_size": 2}
FP8_CACHE = {"kv_cache_dtype": "fp8"}


@pytest.mark.system
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("model", "source", "target"),
    [
        # vLLM's CPU build has blocks of 16 tokens for MLA, and no others.
        pytest.param("deepseek", {}, {}, id="mla"),
        pytest.param("mixtral", TWO_RANKS, SMALL_BLOCKS, id="moe"),
        pytest.param("llama", FP8_CACHE, FP8_CACHE | SMALL_BLOCKS, id="fp8-cache"),
        pytest.param("llama", TWO_STAGES, SMALL_BLOCKS, id="two-stages-to-one"),
        pytest.param("one-head", TWO_RANKS | SMALL_BLOCKS, TWO_RANKS, id="more-ranks-than-heads"),
    ],
)
def test_kv_of_every_kind_moves(
    start: StartEngine, model: str, source: dict[str, Any], target: dict[str, Any]
) -> None:
    assert_hands_over(start(model, **source), start(model, **target), LENGTHS)


@pytest.mark.system
@pytest.mark.timeout(240)
def test_latent_vectors_arrive_bit_for_bit(start: StartEngine) -> None:
    prefill, decode = start("deepseek", **TWO_RANKS), start("deepseek")
    hand_over(prefill, decode, make_prompt(1, NUM_TOKENS), max_tokens=1)
    for rank in prefill.ask("kv_rows"):
        for sent, received in zip(rank, decode.ask("kv_rows")[0], strict=True):
            assert len(sent & received) > NUM_TOKENS / 2
            assert len(sent - received) <= 1  # the last token is the decode engine's own
