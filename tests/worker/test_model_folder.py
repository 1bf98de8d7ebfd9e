from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.errors import BadModel
from worker.model_folder import ModelFolder


def make_folder(folder: Path, config: dict[str, str] | None = None, **weights: int) -> ModelFolder:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    for name, size in (weights or {"model": 10}).items():
        (folder / f"{name}.safetensors").write_bytes(bytes(size))
    return ModelFolder.open(folder)


def test_the_same_files_have_the_same_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a").fingerprint == make_folder(tmp_path / "b").fingerprint


def test_another_config_name_or_size_is_another_model(tmp_path: Path) -> None:
    folders = [
        make_folder(tmp_path / "a"),
        make_folder(tmp_path / "b", {"model_type": "gemma"}),
        make_folder(tmp_path / "c", model=11),
        make_folder(tmp_path / "d", weights=10),
        make_folder(tmp_path / "e", model=5, rest=5),
    ]
    assert len({folder.fingerprint for folder in folders}) == len(folders)


def test_only_the_weights_that_are_loaded_count(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (tmp_path / "a" / "pytorch_model.bin").write_bytes(bytes(99))
    assert ModelFolder.open(tmp_path / "a") == folder


def test_weights_grow_with_the_number_format(tmp_path: Path) -> None:
    half = make_folder(tmp_path / "a", {"torch_dtype": "bfloat16"})
    assert (half.weight_bytes("bfloat16"), half.weight_bytes("float32")) == (10, 20)
    assert make_folder(tmp_path / "b", {"dtype": "unheard-of"}).weight_bytes("float32") == 10
    assert make_folder(tmp_path / "c").weight_bytes("float32") == 10


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="no such folder"):
        ModelFolder.open(tmp_path / "nowhere")
    with pytest.raises(BadModel, match=r"config\.json: No such file"):
        ModelFolder.open(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadModel, match=r"none of \*\.safetensors"):
        ModelFolder.open(tmp_path)
