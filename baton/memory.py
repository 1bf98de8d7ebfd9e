"""Whether the model fits into memory, before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from baton.errors import NotEnoughMemory
from baton.model_folder import WEIGHTS

GIB = 1024**3
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
# Python, torch and vLLM without any weight, as measured on the CPU build.
WORKER_BYTES = GIB
GATEWAY_BYTES = GIB * 5 // 8
# Each of its processes beyond the first, which share what was imported.
GATEWAY_PROCESS_BYTES = GIB // 8

NUMBER_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What the workers and the gateway take together."""

    num_workers: int
    weight_bytes: int  # of one worker
    kv_cache_bytes: int  # of one worker
    offload_bytes: int = 0  # of all
    num_gateway_processes: int = 1

    @property
    def total_bytes(self) -> int:
        worker_bytes = self.weight_bytes + self.kv_cache_bytes + WORKER_BYTES
        gateway_bytes = GATEWAY_BYTES + (self.num_gateway_processes - 1) * GATEWAY_PROCESS_BYTES
        return self.num_workers * worker_bytes + self.offload_bytes + gateway_bytes

    def check(self, available_bytes: int) -> None:
        """Raises NotEnoughMemory."""
        if self.total_bytes > available_bytes:
            offload = f"{gib(self.offload_bytes)} for cold KV, " if self.offload_bytes else ""
            raise NotEnoughMemory(
                f"not enough memory: {self.num_workers} workers with {gib(self.weight_bytes)} of "
                f"weights and {gib(self.kv_cache_bytes)} of KV cache each, {offload}and what "
                f"runs them, need {gib(self.total_bytes)}, but {gib(available_bytes)} are "
                "free; use fewer workers, a smaller --kv-cache-gib or a smaller model"
            )


def weight_bytes(model: Path, dtype: str) -> int:
    """The weights of a model folder in memory, once they have the wanted number format."""
    for pattern in WEIGHTS:
        if stored := sum(path.stat().st_size for path in model.glob(pattern)):
            return int(stored * widening(model, dtype))
    return 0


def widening(model: Path, dtype: str) -> float:
    """How much larger the weights are in memory than on disk; 1 if that cannot be told."""
    try:
        config = json.loads((model / "config.json").read_text())
        stored = config.get("dtype") or config.get("torch_dtype")
        return NUMBER_BYTES[dtype] / NUMBER_BYTES[stored]
    except (OSError, ValueError, KeyError, TypeError):
        return 1.0


def available_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """What the machine has free, or what this container may still take, if that is less."""
    fields = (line.split() for line in meminfo.read_text().splitlines())
    free = next(int(field[1]) * 1024 for field in fields if field[0] == "MemAvailable:")
    try:
        limit = int((cgroup / "memory.max").read_text())
        return min(free, limit - int((cgroup / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
