"""How cold KV is kept: the tiers that vLLM's OffloadingConnector asks for.

Written against vllm/v1/kv_offload/tiering/spec.py of vLLM 0.32.
"""

from __future__ import annotations

from pathlib import Path

from vllm.platforms import current_platform
from vllm.v1.kv_offload.base import CanonicalKVCaches, OffloadingManager, OffloadingWorker
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

from kvtransfer.offload_copies import HostCopies


class OffloadSpec(TieringOffloadingSpec):
    """vLLM's own, that also serves CPU engines, and whose host memory dies with its processes.

    That memory is a file in /dev/shm, which all ranks and then the scheduler open by its
    name. From then on it needs none.
    """

    _worker: OffloadingWorker | None

    def get_worker(self, kv_caches: CanonicalKVCaches) -> OffloadingWorker:
        if self._worker is None:
            self._worker = self.create_worker(kv_caches)
        return self._worker

    def create_worker(self, kv_caches: CanonicalKVCaches) -> OffloadingWorker:
        if not current_platform.is_cpu():
            worker = super().create_worker(kv_caches)
            worker._mmap_region._creator = False
            return worker
        assert self.blocks_per_chunk == 1, "a block is the unit on a CPU"
        region = SharedOffloadRegion(
            engine_id=self._engine_id,
            num_chunks=self.num_chunks,
            rank=self.config.parallel.rank,
            kv_bytes_per_chunk=self.kv_bytes_per_chunk,
            cpu_page_size=self.cpu_page_size_per_worker,
        )
        region._creator = False
        return HostCopies(kv_caches, region)

    def get_manager(self) -> OffloadingManager:
        manager = super().get_manager()
        Path(self._scheduler_mmap.mmap_path).unlink(missing_ok=True)
        self._scheduler_mmap._creator = False
        return manager
