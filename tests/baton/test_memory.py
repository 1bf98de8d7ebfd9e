from __future__ import annotations

import json
from pathlib import Path

import pytest

from baton.errors import NotEnoughMemory
from baton.memory import (
    GATEWAY_BYTES,
    GIB,
    WORKER_BYTES,
    MemoryNeed,
    available_bytes,
    weight_bytes,
)


def make_folder(folder: Path, stored: str | None, **files: int) -> Path:
    (folder / "config.json").write_text(json.dumps({"torch_dtype": stored} if stored else {}))
    for name, size in files.items():
        (folder / name.replace("_", ".")).write_bytes(b"\0" * size)
    return folder


@pytest.mark.parametrize(
    ("stored", "dtype", "expected"),
    [
        ("bfloat16", "auto", 300),
        ("bfloat16", "float32", 600),
        ("float32", "bfloat16", 150),
        (None, "float32", 300),
    ],
)
def test_weights_are_counted_as_they_will_be_in_memory(
    tmp_path: Path, stored: str | None, dtype: str, expected: int
) -> None:
    folder = make_folder(tmp_path, stored, a_safetensors=100, b_safetensors=200, c_bin=1000)
    assert weight_bytes(folder, dtype) == expected


def test_a_need_that_fits_exactly_is_met() -> None:
    need = MemoryNeed(num_workers=2, weight_bytes=GIB, kv_cache_bytes=GIB)
    assert need.total_bytes == 2 * (2 * GIB + WORKER_BYTES) + GATEWAY_BYTES
    need.check(need.total_bytes)


def test_a_need_that_does_not_fit_says_what_would() -> None:
    need = MemoryNeed(num_workers=2, weight_bytes=14 * GIB, kv_cache_bytes=GIB)
    with pytest.raises(NotEnoughMemory, match=r"2 workers with 14\.0 GiB .* 8\.0 GiB are free"):
        need.check(8 * GIB)


def test_memory_for_cold_kv_is_part_of_the_need() -> None:
    without = MemoryNeed(num_workers=2, weight_bytes=GIB, kv_cache_bytes=GIB)
    need = MemoryNeed(2, GIB, GIB, offload_bytes=3 * GIB)
    assert need.total_bytes == without.total_bytes + 3 * GIB
    with pytest.raises(NotEnoughMemory, match=r"each, 3\.0 GiB for cold KV, and what runs"):
        need.check(8 * GIB)


def test_a_container_may_have_less_than_the_machine(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   50 kB\n")
    assert available_bytes(meminfo, tmp_path) == 50 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, tmp_path) == 50 * 1024
    (tmp_path / "memory.max").write_text("30000\n")
    (tmp_path / "memory.current").write_text("10000\n")
    assert available_bytes(meminfo, tmp_path) == 20000
