"""vLLM's OffloadingConnector, beside another one in a MultiConnector.

Written against vllm/distributed/kv_transfer/kv_connector/v1 of vLLM 0.32.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
from vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector import OffloadingConnector

from kvtransfer.offload_stats import Offloads

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request


class OffloadStats(KVConnectorStats):
    """`Offloads` in the form that vLLM carries from an engine to its client."""

    data: dict[str, Any]

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Both count from the start: the later one has it all."""
        self.data = dict(other.data)
        return self

    def reduce(self) -> dict[str, int | float]:
        return dict(self.data)

    def is_empty(self) -> bool:
        return not self.data


class OffloadConnector(OffloadingConnector):
    """Leaves alone what the other connector loads, and says only what has changed."""

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._told = Offloads()

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        if is_handed_off(request):
            return 0, False
        return super().get_num_new_matched_tokens(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        super().update_state_after_alloc(request, blocks, num_external_tokens)
        if num_external_tokens == 0:
            self._fence(blocks)

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        if self.connector_scheduler is None:
            return None
        stats = self.connector_scheduler.get_stats()
        if stats is None:
            return None
        offloads = self._told.plus(stats.data["data"])
        if offloads == self._told:
            return None
        self._told = offloads
        return OffloadStats(data=asdict(offloads))

    @classmethod
    def build_kv_connector_stats(
        cls, data: dict[str, Any] | None = None
    ) -> KVConnectorStats | None:
        return OffloadStats(data=data or {})

    def _fence(self, blocks: KVCacheBlocks) -> None:
        """A block that the other connector may write to before the request is scheduled, when
        vLLM would look: what is still to be stored out of it is stored first.
        """
        self.scheduler._current_batch_allocated_block_ids.update(
            block.block_id
            for group in blocks.blocks
            for block in group
            if block.block_hash is None and not block.is_null
        )


def is_handed_off(request: Request) -> bool:
    """Its KV comes from a prefill worker."""
    return (request.kv_transfer_params or {}).get("leg") == "decode"
