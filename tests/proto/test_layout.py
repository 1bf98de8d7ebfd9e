from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from proto.layout import KvLayout, Part, Shard, obstacle

# SmolLM2-135M in bf16 with vLLM's CPU backend: 3 KV heads of 64 values, K and V.
SMOLLM2 = KvLayout(
    block_size=128,
    num_heads=3,
    content_size=128,
    key_size=64,
    dtype="bfloat16",
    stage_layers=(30,),
)
K_BEFORE_V = (Part(0, ((128, 128), (64, 1))), Part(64, ((128, 128), (64, 1))))
# Of a kind with DeepSeek's: one latent head on every rank, no V of its own.
LATENT = KvLayout(64, 1, 576, 576, "fp8_e4m3", (4,), tensor_parallel_size=4)

DIFFERENT = [
    pytest.param(replace(SMOLLM2, block_size=64), id="block-size"),
    pytest.param(replace(SMOLLM2, num_heads=1), id="heads"),
    pytest.param(replace(SMOLLM2, content_size=64), id="content"),
    pytest.param(replace(SMOLLM2, dtype="float16"), id="dtype"),
    pytest.param(replace(SMOLLM2, stage_layers=(31,)), id="layers"),
    pytest.param(replace(SMOLLM2, tensor_parallel_size=3), id="tensor-parallel"),
    pytest.param(replace(SMOLLM2, stage_layers=(15, 15)), id="pipeline-parallel"),
]


def test_bytes_follow_from_the_shape() -> None:
    assert SMOLLM2.bytes_per_token == 23_040
    assert SMOLLM2.head_bytes == 32_768
    assert SMOLLM2.bytes_per_token * SMOLLM2.block_size == 30 * 3 * SMOLLM2.head_bytes
    assert LATENT.bytes_per_token == 4 * 576


@pytest.mark.parametrize(
    ("num_tokens", "num_blocks"),
    [
        pytest.param(0, 0, id="none"),
        pytest.param(1, 1, id="one"),
        pytest.param(127, 1, id="one-less"),
        pytest.param(128, 1, id="exact"),
        pytest.param(129, 2, id="one-more"),
        pytest.param(128_000, 1000, id="many"),
    ],
)
def test_tokens_take_whole_blocks(num_tokens: int, num_blocks: int) -> None:
    assert SMOLLM2.num_blocks(num_tokens) == num_blocks


@pytest.mark.parametrize(
    ("layout", "shards"),
    [
        pytest.param(SMOLLM2, [Shard(0, 30, 0, 3)], id="one-rank"),
        pytest.param(
            replace(SMOLLM2, tensor_parallel_size=3),
            [Shard(0, 30, 0, 1), Shard(0, 30, 1, 1), Shard(0, 30, 2, 1)],
            id="a-head-each",
        ),
        pytest.param(
            replace(SMOLLM2, num_heads=2, tensor_parallel_size=4),
            [
                Shard(0, 30, 0, 1, replica=0, num_replicas=2),
                Shard(0, 30, 0, 1, replica=1, num_replicas=2),
                Shard(0, 30, 1, 1, replica=0, num_replicas=2),
                Shard(0, 30, 1, 1, replica=1, num_replicas=2),
            ],
            id="two-ranks-a-head",
        ),
        pytest.param(
            replace(SMOLLM2, num_heads=4, tensor_parallel_size=2, stage_layers=(20, 10)),
            [Shard(0, 20, 0, 2), Shard(0, 20, 2, 2), Shard(20, 10, 0, 2), Shard(20, 10, 2, 2)],
            id="unequal-stages",
        ),
        pytest.param(
            LATENT,
            [Shard(0, 4, 0, 1, replica=rank, num_replicas=4) for rank in range(4)],
            id="latent",
        ),
    ],
)
def test_ranks_share_layers_and_heads(layout: KvLayout, shards: list[Shard]) -> None:
    assert [layout.shard(rank) for rank in range(layout.num_ranks)] == shards


def test_a_shard_is_counted_through_the_model() -> None:
    shard = Shard(first_layer=20, num_layers=10, first_head=2, num_heads=2)
    assert (shard.layers, shard.heads) == (range(20, 30), range(2, 4))


@pytest.mark.parametrize("other", DIFFERENT)
def test_any_difference_changes_the_fingerprint_and_the_summary(other: KvLayout) -> None:
    assert other.fingerprint != SMOLLM2.fingerprint
    assert other.summary != SMOLLM2.summary


def test_the_interior_belongs_to_the_fingerprint() -> None:
    assert replace(SMOLLM2, interior=K_BEFORE_V).fingerprint != SMOLLM2.fingerprint
    assert replace(SMOLLM2, key_size=128).fingerprint != SMOLLM2.fingerprint


def test_equal_layouts_have_equal_fingerprints() -> None:
    assert replace(SMOLLM2).fingerprint == SMOLLM2.fingerprint


@pytest.mark.parametrize("layout", [SMOLLM2, LATENT, replace(SMOLLM2, interior=K_BEFORE_V)])
def test_a_layout_comes_back_as_it_was(layout: KvLayout) -> None:
    assert KvLayout.from_json(layout.to_json()) == layout
    assert KvLayout.from_proto(layout.to_proto()) == layout


def test_its_message_has_the_derived_values() -> None:
    message = replace(SMOLLM2, stage_layers=(16, 14), tensor_parallel_size=3).to_proto()
    assert (message.num_layers, message.bytes_per_token) == (30, 23_040)
    assert (message.tensor_parallel_size, message.pipeline_parallel_size) == (3, 2)
    assert (message.block_size, message.dtype) == (128, "bfloat16")
    assert message.fingerprint
    assert "TP 3 PP 2" in message.summary


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"block_size": 0}, "positive", id="no-tokens"),
        pytest.param({"num_heads": -1}, "positive", id="negative-heads"),
        pytest.param({"stage_layers": ()}, "positive", id="no-stages"),
        pytest.param({"stage_layers": (3, 0)}, "positive", id="an-empty-stage"),
        pytest.param({"tensor_parallel_size": 0}, "positive", id="no-ranks"),
        pytest.param({"tensor_parallel_size": 2}, "3 KV heads over 2 ranks", id="uneven-heads"),
        pytest.param({"key_size": 129}, "129 of 128", id="too-much-k"),
        pytest.param({"key_size": -1}, "-1 of 128", id="negative-k"),
        pytest.param({"dtype": "float4"}, "'float4'; known are float32", id="dtype"),
        pytest.param({"interior": K_BEFORE_V[:1]}, "does not fill it", id="half-an-interior"),
    ],
)
def test_a_layout_that_cannot_be_is_a_value_error(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(SMOLLM2, **changes)


FIELDS = json.loads(SMOLLM2.to_json())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a-list"),
        pytest.param("7", id="a-number"),
        pytest.param("{}", id="no-fields"),
        pytest.param(json.dumps(FIELDS | {"more": 1}), id="another-field"),
        pytest.param(json.dumps(FIELDS | {"block_size": None}), id="null"),
        pytest.param(json.dumps(FIELDS | {"block_size": "128"}), id="text-for-a-number"),
        pytest.param(json.dumps(FIELDS | {"dtype": ["bfloat16"]}), id="list-for-a-text"),
        pytest.param(json.dumps(FIELDS | {"stage_layers": 30}), id="number-for-a-list"),
        pytest.param(json.dumps(FIELDS | {"interior": [{"start": 0}]}), id="part-of-a-part"),
        pytest.param(json.dumps(FIELDS | {"interior": [7]}), id="number-for-a-part"),
        pytest.param(json.dumps(FIELDS | {"block_size": 0}), id="impossible"),
    ],
)
def test_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        KvLayout.from_json(text)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(replace(SMOLLM2, block_size=64), id="block-size"),
        pytest.param(replace(SMOLLM2, interior=K_BEFORE_V), id="interior"),
        pytest.param(replace(SMOLLM2, tensor_parallel_size=3), id="tensor-parallel"),
        pytest.param(replace(SMOLLM2, stage_layers=(20, 10)), id="pipeline-parallel"),
    ],
)
def test_these_differences_are_no_obstacle(target: KvLayout) -> None:
    assert obstacle(SMOLLM2, target) is None


@pytest.mark.parametrize(
    ("target", "what"),
    [
        pytest.param(replace(SMOLLM2, stage_layers=(31,)), r"layers \(30, 31\)", id="layers"),
        pytest.param(replace(SMOLLM2, num_heads=6), r"KV heads \(3, 6\)", id="heads"),
        pytest.param(replace(SMOLLM2, content_size=256), r"a head \(128, 256\)", id="content"),
        pytest.param(replace(SMOLLM2, key_size=128), r"of K \(64, 128\)", id="latent"),
        pytest.param(replace(SMOLLM2, dtype="float16"), r"bfloat16, float16", id="dtype"),
    ],
)
def test_an_obstacle_names_both_sides(target: KvLayout, what: str) -> None:
    reason = obstacle(SMOLLM2, target)
    assert reason is not None
    assert re.search(what, reason)
    assert SMOLLM2.summary in reason
    assert target.summary in reason


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"block_size": 2**40}, id="block-too-large"),
        pytest.param({"block_size": 1e308}, id="float"),
        pytest.param({"block_size": 16.0}, id="whole-float"),
        pytest.param({"num_heads": True}, id="bool"),
        pytest.param({"block_size": 2**14, "content_size": 2**14}, id="head-too-large"),
        pytest.param({"stage_layers": [1e400]}, id="infinite-layers"),
        pytest.param({"dtype": 7}, id="dtype-is-no-text"),
        pytest.param({"key_size": "64"}, id="key-size-is-text"),
        pytest.param({"interior": [{"start": 0, "digits": [[2**60, 1]]}]}, id="huge-digit"),
        pytest.param({"interior": [{"start": 0, "digits": [[1, 1]] * 20}]}, id="many-digits"),
        pytest.param({"interior": [{"start": 0, "digits": [[1, 1]]}] * 100}, id="many-parts"),
    ],
)
def test_a_layout_from_elsewhere_cannot_ask_for_the_impossible(changes: dict[str, Any]) -> None:
    """What is allocated for a conversion follows from it."""
    text = json.dumps({**json.loads(SMOLLM2.to_json()), **changes})
    with pytest.raises(ValueError, match=" "):
        KvLayout.from_json(text)


def test_json_that_nests_too_deep_is_no_layout() -> None:
    with pytest.raises(ValueError, match="not a KV layout"):
        KvLayout.from_json("[" * 100_000)
