from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvtransfer.offload_stats import Offloads

SEEN: Mapping[str, Mapping[Any, Any]] = {
    "vllm:kv_offload_store_bytes": {(): 100},
    "vllm:kv_offload_store_time": {(): 0.5},
    "vllm:kv_offload_load_bytes": {(): 40},
    "vllm:kv_offload_load_time": {(): 0.25},
    "vllm:kv_offload_load_size": {(): [30, 10]},
    "vllm:kv_offload_tiering_write_bytes": {("1:FolderTier",): 7},
    "vllm:kv_offload_tiering_read_bytes": {("1:FolderTier",): 5},
    "vllm:kv_offload_allocation_failure": {(): 1},
    "vllm:kv_offload_tiering_promotion_job_failures": {("1:FolderTier",): 2},
    "vllm:kv_offload_tiering_cascade_job_failures": {("1:FolderTier",): 3},
    "vllm:kv_offload_cpu_cache_usage_perc": {(): 0.9},
}


def test_what_is_counted_adds_up() -> None:
    once = Offloads(100, 40, 2, 0.5, 0.25, 7, 5, 1, 5)
    assert Offloads().plus(SEEN) == once
    assert once.plus(SEEN) == Offloads(200, 80, 4, 1.0, 0.5, 14, 10, 2, 10)


def test_gauges_alone_change_nothing() -> None:
    usage: Mapping[str, Mapping[Any, Any]] = {"vllm:kv_offload_cpu_cache_usage_perc": {(): 0.5}}
    assert Offloads().plus(usage) == Offloads()
