"""Downloads from a hub in miniature, through the real client of the Hugging Face hub."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from baton.model_errors import DownloadFailed, IncompleteModel, UnknownModel
from baton.model_hub import fetch_snapshot, wanted_files
from tests.baton.small_hub import small_hub

FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"0123456789",
    "pytorch_model.bin": b"not wanted",
    "onnx/model.onnx": b"not wanted",
    "README.md": b"not wanted",
}


@pytest.fixture
def hub() -> Iterator[str]:
    models = {
        "org/whole": FILES,
        "org/gated": None,
        "org/half": {"config.json": b"{}", "model.safetensors": b""},
        "org/other": {"README.md": b""},
    }
    with small_hub(models) as endpoint:
        yield endpoint


def quiet(line: str) -> None:
    pass


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_the_files_that_serving_needs_are_fetched_with_a_line_each(
    hub: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    folder = fetch_snapshot("org/whole", lines.append, endpoint=hub, cache=tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert (folder / "model.safetensors").read_bytes() == b"0123456789"
    assert lines[1] == "org/whole: file 1 of 3, config.json (0.0 MB)"
    assert len(lines) == 4


def test_what_is_in_the_cache_needs_no_hub(hub: str, tmp_path: Path) -> None:
    fetched = fetch_snapshot("org/whole", quiet, endpoint=hub, cache=tmp_path)
    nowhere = f"http://127.0.0.1:{closed_port()}"
    lines: list[str] = []
    assert fetch_snapshot("org/whole", lines.append, endpoint=nowhere, cache=tmp_path) == fetched
    assert lines == []


def test_a_part_that_the_cache_lacks_is_fetched_again(hub: str, tmp_path: Path) -> None:
    folder = fetch_snapshot("org/whole", quiet, endpoint=hub, cache=tmp_path)
    (folder / "model.safetensors").unlink()
    assert fetch_snapshot("org/whole", quiet, endpoint=hub, cache=tmp_path) == folder
    assert (folder / "model.safetensors").read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        pytest.param("org/none", UnknownModel, "no public model", id="unknown"),
        pytest.param("org/gated", DownloadFailed, "licence accepted", id="gated"),
        pytest.param("org/half", IncompleteModel, "no tokenizer", id="incomplete"),
        pytest.param("org/other", IncompleteModel, "no files that an engine", id="no-model"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_in_one_line(
    hub: str, tmp_path: Path, model: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        fetch_snapshot(model, quiet, endpoint=hub, cache=tmp_path)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_way_out_is_told(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(DownloadFailed, match="name a local folder instead"):
        fetch_snapshot("org/whole", quiet, endpoint=nowhere, cache=tmp_path)


def test_pickled_weights_are_wanted_only_without_safetensors() -> None:
    assert wanted_files(FILES) == ["config.json", "tokenizer.json", "model.safetensors"]
    old = ["pytorch_model.bin", "config.json", "sub/config.json"]
    assert wanted_files(old) == ["config.json", "pytorch_model.bin"]
