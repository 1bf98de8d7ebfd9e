from __future__ import annotations

import json
from pathlib import Path

import pytest

from baton.model_errors import IncompleteModel
from baton.model_folder import check_folder


def make_folder(root: Path, *, without: str = "", **files: str) -> Path:
    content = {
        "config.json": '{"model_type": "llama"}',
        "tokenizer.json": "{}",
        "model.safetensors": "",
    }
    for name, text in (content | files).items():
        if name != without:
            (root / name).write_text(text)
    return root


def test_a_complete_folder_is_given_back_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert check_folder(Path()) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("without", "complaint"),
    [
        pytest.param("config.json", "no config.json", id="config"),
        pytest.param("tokenizer.json", "no tokenizer", id="tokenizer"),
        pytest.param("model.safetensors", "no weights", id="weights"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, without: str, complaint: str) -> None:
    with pytest.raises(IncompleteModel, match=complaint) as caught:
        check_folder(make_folder(tmp_path, without=without))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(IncompleteModel, match=r"no config\.json, no tokenizer .*, no weights"):
        check_folder(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_config_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(IncompleteModel, match=r"readable config\.json"):
        check_folder(make_folder(tmp_path, **{"config.json": text}))


@pytest.mark.parametrize("other", ["tokenizer.model", "tekken.json"])
def test_other_tokenizers_will_do(tmp_path: Path, other: str) -> None:
    check_folder(make_folder(tmp_path, without="tokenizer.json", **{other: ""}))


def test_half_a_tokenizer_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(IncompleteModel, match="no tokenizer"):
        check_folder(make_folder(tmp_path, without="tokenizer.json", **{"vocab.json": "{}"}))


def test_shards_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})
    folder = make_folder(
        tmp_path,
        without="model.safetensors",
        **{"model.safetensors.index.json": index, "m-1.safetensors": ""},
    )
    with pytest.raises(IncompleteModel, match=r"no weight file m-2\.safetensors"):
        check_folder(folder)
    (folder / "m-2.safetensors").touch()
    check_folder(folder)


def test_an_index_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, **{"model.safetensors.index.json": "[1]"})
    with pytest.raises(IncompleteModel, match="index cannot be read"):
        check_folder(folder)
