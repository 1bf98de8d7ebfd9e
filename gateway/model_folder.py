"""Whether a model is there, before anything slow is started."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import StartError


def is_folder(model: str) -> bool:
    """Whether the name means a folder of this machine and not a hub id."""
    return Path(model).is_dir() or model.startswith(("/", ".", "~")) or model.count("/") > 1


def check_model(model: str) -> None:
    """Raises StartError for a folder that cannot serve. Hub ids are not looked at."""
    if not is_folder(model):
        return
    folder = Path(model)
    if not folder.is_dir():
        raise StartError(f"model: there is no folder {model}")
    if not (folder / "config.json").is_file():
        raise StartError(f"model: {model} has no config.json")
    if not any(folder.glob("tokenizer*")) and not any(folder.glob("*tekken*")):
        raise StartError(f"model: {model} has no tokenizer")
