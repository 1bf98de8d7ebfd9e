from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import BadModel
from worker.model_folder import ModelFolder
from worker.sim.answer import TokenRange
from worker.sim.model import SimModel, layout_of, longest_run

CONFIG: dict[str, Any] = {
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "torch_dtype": "bfloat16",
}


def make_model(folder: Path, config: dict[str, Any], vocabulary: dict[str, int] | None) -> SimModel:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    if vocabulary is not None:
        tokenizer = {"model": {"vocab": vocabulary}}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return SimModel.of(ModelFolder.open(folder), block_size=16, max_model_len=None)


def test_answers_are_the_longest_run_of_ordinary_tokens(tmp_path: Path) -> None:
    words = ["<s>", "a", "é", "Ġthe", "▁of", "x1", "\n", "b", "c"]
    model = make_model(tmp_path, CONFIG, {word: i for i, word in enumerate(words)})
    assert model.answers == TokenRange(3, 3)
    assert (model.max_model_len, model.vocab_size) == (512, 100)


def test_without_a_vocabulary_answers_are_from_its_middle(tmp_path: Path) -> None:
    assert make_model(tmp_path, CONFIG, None).answers == TokenRange(25, 50)


def test_a_config_that_lacks_something_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"config.json: KeyError: 'vocab_size'"):
        make_model(tmp_path, {}, None)


@pytest.mark.parametrize(
    ("changes", "bytes_per_token"),
    [
        pytest.param({}, 2 * 2 * 32 * 2, id="grouped"),
        pytest.param({"num_key_value_heads": None}, 2 * 4 * 32 * 2, id="all-heads"),
        pytest.param({"head_dim": 64}, 2 * 2 * 128 * 2, id="head-size"),
        pytest.param({"kv_lora_rank": 24, "qk_rope_head_dim": 8}, 2 * 32 * 2, id="mla"),
    ],
)
def test_kv_takes_what_the_model_says(changes: dict[str, Any], bytes_per_token: int) -> None:
    assert layout_of({**CONFIG, **changes}, 16).bytes_per_token == bytes_per_token


def test_of_two_runs_the_first_is_taken() -> None:
    assert longest_run([1, 2, 5, 6]) == TokenRange(1, 2)
    assert longest_run([]) is None
