"""Copies blocks between the paged cache of a CPU engine and the host memory for cold KV.

vLLM's own worker for that is for GPUs only. Written against vllm/v1/kv_offload of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vllm.v1.kv_offload.base import (
    CanonicalKVCacheRef,
    CanonicalKVCaches,
    GPULoadStoreSpec,
    OffloadingWorker,
    TransferResult,
)
from vllm.v1.kv_offload.cpu.common import CPULoadStoreSpec
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion

Rows = NDArray[np.int8]  # (number of blocks, bytes of a block in one layer)
Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Copied:
    num_bytes: int
    seconds: float


class HostCopies(OffloadingWorker):
    """One rank's. A thread copies, in the order in which it was asked; a block there is as
    large as a block here.
    """

    def __init__(self, kv_caches: CanonicalKVCaches, region: SharedOffloadRegion) -> None:
        self._region = region
        self._paged: list[Rows] = [each.tensor.numpy() for each in kv_caches.tensors]
        self._host: list[Rows] = [
            region.create_next_worker_view(each.page_size_bytes).numpy()
            for each in kv_caches.tensors
        ]
        self._layers: list[list[CanonicalKVCacheRef]] = kv_caches.group_data_refs
        self._thread = ThreadPoolExecutor(1, "offload")
        self._jobs: dict[int, Future[Copied]] = {}

    def submit_store(
        self, job_id: int, src_spec: GPULoadStoreSpec, dst_spec: CPULoadStoreSpec
    ) -> bool:
        ids = (src_spec.block_ids, dst_spec.block_ids)
        self._submit(job_id, self._paged, self._host, ids, src_spec.group_sizes)
        return True

    def submit_load(
        self, job_id: int, src_spec: CPULoadStoreSpec, dst_spec: GPULoadStoreSpec
    ) -> bool:
        ids = (src_spec.block_ids, dst_spec.block_ids)
        self._submit(job_id, self._host, self._paged, ids, dst_spec.group_sizes)
        return True

    def get_finished(self) -> list[TransferResult]:
        done = {job_id: job.result() for job_id, job in self._jobs.items() if job.done()}
        for job_id in done:
            del self._jobs[job_id]
        return [
            TransferResult(job_id, True, copied.num_bytes, copied.seconds)
            for job_id, copied in done.items()
        ]

    def wait(self, job_ids: set[int]) -> None:
        wait([self._jobs[job_id] for job_id in job_ids & self._jobs.keys()])

    def shutdown(self) -> None:
        self._thread.shutdown()
        self._paged.clear()
        self._host.clear()
        self._region.cleanup()
        Path(self._region.mmap_path).unlink(missing_ok=True)

    def _submit(
        self,
        job_id: int,
        source: Sequence[Rows],
        target: Sequence[Rows],
        ids: tuple[Ids, Ids],
        group_sizes: Sequence[int],
    ) -> None:
        self._jobs[job_id] = self._thread.submit(self._copy, source, target, ids, group_sizes)

    def _copy(
        self,
        source: Sequence[Rows],
        target: Sequence[Rows],
        ids: tuple[Ids, Ids],
        group_sizes: Sequence[int],
    ) -> Copied:
        """`ids` are those of all groups of layers, one group after the other."""
        started, num_bytes, first = perf_counter(), 0, 0
        for layers, size in zip(self._layers, group_sizes, strict=True):
            pairs = list(zip(*(each[first : first + size].tolist() for each in ids), strict=True))
            first += size
            for layer in layers:
                rows, places = source[layer.tensor_idx], target[layer.tensor_idx]
                for row, place in pairs:
                    places[place] = rows[row]
                num_bytes += size * layer.page_size_bytes
        return Copied(num_bytes, perf_counter() - started)
