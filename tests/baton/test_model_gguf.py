from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from baton.model_errors import BadModelFile
from baton.model_folder import check_folder
from baton.model_gguf import bfloat16_bits, convert, tensor_name
from baton.model_llama import Llama
from tests.baton.tiny_gguf import TEMPLATE, Weights, make_llama, make_weights, write_gguf


def converted(tmp_path: Path, llama: Llama) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    convert(write_gguf(tmp_path / "tiny.gguf", llama, make_weights(llama)), folder)
    return folder


def stored(folder: Path) -> Weights:
    """The weights of a folder, read without the library that wrote them."""
    data = (folder / "model.safetensors").read_bytes()
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body])
    assert header.pop("__metadata__") == {"format": "pt"}
    weights: Weights = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        halves = np.frombuffer(data[body + begin : body + end], np.uint16)
        weights[name] = (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    return weights


@pytest.mark.parametrize("is_tied", [True, False])
def test_every_weight_comes_out_as_it_went_in(tmp_path: Path, is_tied: bool) -> None:
    llama = make_llama(has_tied_embeddings=is_tied)
    found = stored(converted(tmp_path, llama))
    assert found.keys() == llama.shapes().keys()
    for name, weight in make_weights(llama).items():
        assert np.array_equal(found[name], weight), name


def test_the_folder_is_complete_and_its_config_says_what_was_read(tmp_path: Path) -> None:
    llama = make_llama()
    folder = check_folder(converted(tmp_path, llama))
    config = json.loads((folder / "config.json").read_text())
    assert config == llama.config() | {"rms_norm_eps": pytest.approx(1e-5)}
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE


def test_the_tokenizer_merges_splits_digits_and_knows_its_control_tokens(tmp_path: Path) -> None:
    folder = converted(tmp_path, make_llama())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "<start>hello 42<end>"
    encoded = tokenizer.encode(text)
    assert encoded.tokens == ["<start>", "he", "llo", "\u0120", "4", "2", "<end>"]
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text


def test_four_bit_weights_come_out_within_their_step(tmp_path: Path) -> None:
    llama = make_llama()
    weights = make_weights(llama)
    name = "model.layers.0.self_attn.q_proj.weight"
    convert(write_gguf(tmp_path / "tiny.gguf", llama, weights, quantized=name), tmp_path)
    # A block of 32 values spans at most 4, in 15 steps; rounding errs by half of one.
    errors = np.abs(stored(tmp_path)[name] - weights[name])
    assert 0 < errors.max() < 4 / 15 / 2 + 0.01


def test_rounding_to_bf16_is_to_nearest_and_ties_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, 1.005, -2.5], np.float32)
    found = (bfloat16_bits(values).astype(np.uint32) << 16).view(np.float32)
    assert found.tolist() == [1.0, 1.0, 1.015625, 1.0078125, -2.5]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    llama = make_llama()
    file = write_gguf(tmp_path / "x.gguf", llama, make_weights(llama), architecture="gpt2")
    with pytest.raises(BadModelFile, match="architecture is 'gpt2' and not 'llama'"):
        convert(file, tmp_path)


def test_an_unknown_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    llama = make_llama()
    file = write_gguf(tmp_path / "x.gguf", llama, make_weights(llama), split="qwen2")
    with pytest.raises(BadModelFile, match="'qwen2' is not known"):
        convert(file, tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    llama = make_llama()
    weights = make_weights(llama)
    del weights["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(BadModelFile, match=r"layers\.1\.mlp\.up_proj\.weight among them: absent"):
        convert(write_gguf(tmp_path / "x.gguf", llama, weights), tmp_path)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    llama = make_llama()
    weights = make_weights(llama) | {"model.norm.weight": np.ones(16, np.float32)}
    with pytest.raises(BadModelFile, match=r"model\.norm\.weight among them: \(16,\) and not"):
        convert(write_gguf(tmp_path / "x.gguf", llama, weights), tmp_path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    llama = make_llama()
    weights = make_weights(llama)
    weights["model.norm.weight"][0] = np.nan
    with pytest.raises(BadModelFile, match="not finite"):
        convert(write_gguf(tmp_path / "x.gguf", llama, weights), tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"no such magic, and rather short")
    with pytest.raises(BadModelFile, match="cannot be read"):
        convert(tmp_path / "x.gguf", tmp_path)


@pytest.mark.parametrize("name", ["rope_freqs.weight", "blk.0.ssm_in.weight", "blk.0.attn_q.bias"])
def test_a_foreign_tensor_is_refused(name: str) -> None:
    with pytest.raises(BadModelFile, match="belongs to no Llama model"):
        tensor_name(name)


def test_the_written_weights_can_be_read_by_others(tmp_path: Path) -> None:
    file = converted(tmp_path, make_llama()) / "model.safetensors"
    assert file.stat().st_mode & 0o777 == 0o644
    with safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == {"format": "pt"}
