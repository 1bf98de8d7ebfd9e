"""A model's folder: what must be in it before an engine is started on it."""

from __future__ import annotations

import json
from pathlib import Path

from baton.model_errors import IncompleteModel

TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("tekken.json",),
    ("vocab.json", "merges.txt"),
)
WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def check_folder(folder: Path) -> Path:
    """The folder, made absolute. Raises IncompleteModel, which names every missing part."""
    missing = _missing_config(folder) + _missing_tokenizer(folder) + _missing_weights(folder)
    if missing:
        raise IncompleteModel(str(folder), f"this model folder has no {', no '.join(missing)}")
    return folder.resolve()


def _missing_config(folder: Path) -> list[str]:
    config = folder / "config.json"
    if not config.is_file():
        return ["config.json"]
    try:
        is_object = isinstance(json.loads(config.read_text(encoding="utf-8")), dict)
    except ValueError:
        is_object = False
    return [] if is_object else ["readable config.json (it is not a JSON object)"]


def _missing_tokenizer(folder: Path) -> list[str]:
    if any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        return []
    return [f"tokenizer ({', '.join(' with '.join(names) for names in TOKENIZERS)})"]


def _missing_weights(folder: Path) -> list[str]:
    for index in (folder / name for name in INDEXES if (folder / name).is_file()):
        absent = sorted(name for name in _shards(index) if not (folder / name).is_file())
        return [f"weight file {name}" for name in absent]
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return []
    return [f"weights ({', '.join(WEIGHTS)})"]


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IncompleteModel(str(index), "the weights' index cannot be read") from None
