"""The KV connector that vLLM loads: streams a prompt's KV to another worker, layer by layer.

vLLM has one class for both of a connector's halves; this one only passes each call on.
Written against vllm/distributed/kv_transfer/kv_connector/v1/base.py of vLLM 0.32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats

from kvtransfer.connector_orders import StepOrders
from kvtransfer.connector_scheduler import MAX_LOADS, SchedulerHalf
from kvtransfer.connector_setup import open_worker_half
from kvtransfer.connector_stats import BatonStats
from kvtransfer.connector_worker import WorkerHalf
from kvtransfer.stats import Transfers

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


@dataclass(frozen=True, slots=True)
class StepMetadata(KVConnectorMetadata):
    """`StepOrders` in the form that vLLM carries from the scheduler to the workers."""

    orders: StepOrders


class BatonConnector(KVConnectorBase_V1):
    """See the module. `kv_connector_extra_config` takes `fleet_key_file`, the settings of
    MoverConfig by their names, `staging` ("host" or "device"), `max_loads`, `ucx` (settings for
    UCX without their prefix) and `fault` ("corrupt" or "falsify" on a sender, for tests;
    see kvtransfer/faults.py).
    """

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._extra: dict[str, Any] = self._kv_transfer_config.kv_connector_extra_config
        self._scheduler = SchedulerHalf(
            vllm_config.cache_config.block_size, self._extra.get("max_loads", MAX_LOADS)
        )
        self._worker: WorkerHalf | None = None

    # Scheduler's half.

    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        self._scheduler.bind(kv_cache_manager)

    def on_new_request(self, request: Request) -> None:
        self._scheduler.new_request(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        num_tokens = self._scheduler.num_tokens_to_load(request, num_computed_tokens)
        return num_tokens, bool(num_tokens)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        self._scheduler.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return StepMetadata(self._scheduler.step(scheduler_output))

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        self._scheduler.loads_ended(connector_output.finished_recving or ())

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._scheduler.finished(request), None

    # Worker's half.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        self._worker = open_worker_half(
            self._vllm_config, self._kv_cache_config, kv_caches, self._extra
        )

    @property
    def worker(self) -> WorkerHalf:
        assert self._worker is not None, "register_kv_caches comes first"
        return self._worker

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        self.worker.preempted(_orders(kv_connector_metadata))

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        self.worker.begin(_orders(connector_metadata))

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        """Nothing: loads start in `bind_connector_metadata`, before the forward pass."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: a request is scheduled only when all of its KV has landed."""

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: AttentionMetadata,
        **kwargs: Any,
    ) -> None:
        self.worker.layer_done(_orders(self._get_connector_metadata()), layer_name)

    def wait_for_save(self) -> None:
        """Waits for nothing: the blocks are kept until the transfer thread has sent them."""
        self.worker.end(_orders(self._get_connector_metadata()))

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        finished = self.worker.take_finished()
        return KVConnectorTransferResults(
            finished_sending=set(finished.sent),
            finished_recving={*finished.completed, *finished.failed, *finished.cancelled},
            failed_recving=set(finished.failed),
        )

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        if self._worker is None:
            return None
        stats = self._worker.take_stats()
        return BatonStats(data=asdict(stats)) if stats else None

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()

    @classmethod
    def build_kv_connector_stats(
        cls, data: dict[str, Any] | None = None
    ) -> KVConnectorStats | None:
        return BatonStats(data=data or asdict(Transfers()))

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """The layer hooks do not run inside a full CUDA graph."""
        return True


def _orders(metadata: KVConnectorMetadata) -> StepOrders:
    assert isinstance(metadata, StepMetadata)
    return metadata.orders
