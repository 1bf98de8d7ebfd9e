"""Whether an engine fits into this machine's memory, before anything is loaded."""

from __future__ import annotations

import psutil

from worker.errors import NotEnoughMemory

GIB = 1024**3


def check_memory(
    weight_bytes: int,
    kv_cache_bytes: int,
    offload_bytes: int = 0,
    free_bytes: int | None = None,
) -> None:
    """For an engine on a CPU. Raises NotEnoughMemory."""
    free = psutil.virtual_memory().available if free_bytes is None else free_bytes
    if weight_bytes + kv_cache_bytes + offload_bytes > free:
        offload = f" and {gib(offload_bytes)} for cold KV" if offload_bytes else ""
        raise NotEnoughMemory(
            f"not enough memory: {gib(weight_bytes)} of weights and {gib(kv_cache_bytes)} of KV "
            f"cache{offload}, and {gib(free)} are free; use a smaller --kv-cache-gib or a "
            "smaller model"
        )


def gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
