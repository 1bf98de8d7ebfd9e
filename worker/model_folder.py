"""The model's folder: is it one, what is in it, and is it the same as another's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from worker.errors import BadModel

# In the order of vLLM's own preference: the first kind that is there counts.
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
NUMBER_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """`weights` are names and sizes in bytes."""

    path: Path
    config: bytes
    weights: tuple[tuple[str, int], ...]

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Raises BadModel, naming what is missing."""
        if not path.is_dir():
            raise BadModel(f"no model at {path}: there is no such folder")
        try:
            config = (path / "config.json").read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadModel(f"no model at {path}: config.json: {reason}") from error
        for pattern in WEIGHTS:
            if files := sorted(path.glob(pattern)):
                weights = tuple((file.name, file.stat().st_size) for file in files)
                return cls(path, config, weights)
        raise BadModel(f"no model at {path}: none of {', '.join(WEIGHTS)} is there")

    @property
    def fingerprint(self) -> str:
        """Equal for two folders with the same config.json and the same weight files, by name
        and size. The weights themselves are not read.
        """
        digest = hashlib.sha256(self.config)
        for name, size in self.weights:
            digest.update(f"\n{name} {size}".encode())
        return digest.hexdigest()

    def weight_bytes(self, dtype: str) -> int:
        """What the weights take in memory in `dtype`, as far as that can be told."""
        stored = sum(size for _, size in self.weights)
        try:
            config = json.loads(self.config)
            saved = config.get("dtype") or config.get("torch_dtype")
            return stored * NUMBER_BYTES[dtype] // NUMBER_BYTES[saved]
        except (ValueError, KeyError, TypeError, AttributeError):
            return stored
