from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from baton.model import DEFAULT_MODEL, baton_home, ensure_model, models_dir
from baton.model_errors import IncompleteModel, UnknownModel
from tests.baton.test_model_folder import make_folder

ROOT = Path(__file__).resolve().parents[2]


def never(line: str) -> None:
    raise AssertionError(f"nothing was to be fetched, and yet: {line}")


def test_a_default_model_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    folder = tmp_path / DEFAULT_MODEL
    folder.mkdir()
    make_folder(folder)
    assert ensure_model(DEFAULT_MODEL, tmp_path, never) == folder


def test_a_local_folder_is_checked_and_used(tmp_path: Path) -> None:
    assert ensure_model(str(make_folder(tmp_path)), tmp_path / "models", never) == tmp_path
    (tmp_path / "config.json").unlink()
    with pytest.raises(IncompleteModel, match=r"no config\.json"):
        ensure_model(str(tmp_path), tmp_path / "models", never)


def test_a_folder_wins_over_a_hub_id_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    make_folder(folder)
    monkeypatch.chdir(tmp_path)
    assert ensure_model("org/name", tmp_path / "models", never) == folder


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "./a/b", "../org/name", "~/none"])
def test_an_unknown_name_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownModel, match="neither a hub id") as caught:
        ensure_model(name, tmp_path, never)
    assert "\n" not in str(caught.value)


def test_who_waits_for_another_fetch_finds_its_work(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    found: list[Path] = []
    with (models / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other = threading.Thread(
            target=lambda: found.append(ensure_model(DEFAULT_MODEL, models, never))
        )
        other.start()
        folder = models / DEFAULT_MODEL
        folder.mkdir()
        make_folder(folder)
    other.join(timeout=10)
    assert found == [folder]


def test_models_live_in_the_checkout_unless_told_otherwise(tmp_path: Path) -> None:
    assert baton_home({}) == ROOT / ".baton"
    assert models_dir({"BATON_HOME": str(tmp_path)}) == tmp_path / "models"
