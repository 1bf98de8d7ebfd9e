"""vLLM's NixlConnector under Baton's tickets: which of them it holds KV for, and what it moved.

Written against vllm/distributed/kv_transfer/kv_connector/v1/nixl of vLLM 0.32.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vllm import envs
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector
from vllm.model_executor.models.utils import extract_layer_index
from vllm.platforms import current_platform

from kvtransfer.connector_layout import layout_of
from kvtransfer.connector_stats import BatonStats
from kvtransfer.nixl import NixlAddress, signed_params
from kvtransfer.nixl_ledger import NixlHold, NixlLedger
from kvtransfer.nixl_progress import make_patient
from kvtransfer.stats import Transfers
from proto.fleet_key import FleetKey
from proto.layout import KvLayout

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.v1.base import (
        KVConnectorMetadata,
        KVConnectorTransferResults,
    )
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

# A ticket is taken until its lease has ended, clocks may differ, and a decode engine's first
# heartbeat takes some seconds: until then the KV must stay.
GRACE_SECONDS = 30.0


class NixlHandoffConnector(NixlPullConnector):
    """See the module. Requests say what they are part of as in kvtransfer/nixl.py.

    `kv_connector_extra_config` takes `fleet_key_file`, beside vLLM's own settings.
    """

    layout: KvLayout

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        if role is KVConnectorRole.WORKER and current_platform.is_cpu():
            make_patient()
        super().__init__(vllm_config, role, kv_cache_config)
        extra = self._kv_transfer_config.kv_connector_extra_config
        self._key = FleetKey.read(extra["fleet_key_file"])
        self.ledger = NixlLedger()
        self._opened: dict[str, tuple[dict[str, Any], int]] = {}
        self._told = Transfers()
        self._block_bytes = 0

    # Scheduler's half.

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        params = request.kv_transfer_params or {}
        super().update_state_after_alloc(request, blocks, num_external_tokens)
        is_load = params.get("leg") == "decode"
        if "ticket" in params and (num_external_tokens or not is_load):
            num_tokens = num_external_tokens if is_load else request.num_prompt_tokens
            num_blocks = -(-num_tokens // self._vllm_config.cache_config.block_size)
            self._opened[request.request_id] = (params, num_blocks)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        metadata = super().build_connector_meta(scheduler_output)
        metadata.baton_opened, self._opened = self._opened, {}
        return metadata

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._bound(request, *super().request_finished(request, block_ids))

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._bound(request, *super().request_finished_all_groups(request, block_ids))

    def _bound(
        self, request: Request, is_kept: bool, said: dict[str, Any] | None
    ) -> tuple[bool, dict[str, Any] | None]:
        """KV that is kept is its ticket's, for as long as that is taken."""
        params = request.kv_transfer_params or {}
        if not is_kept or said is None or "lease_seconds" not in params:
            return is_kept, said
        until = time.perf_counter() + params["lease_seconds"] + GRACE_SECONDS
        self.connector_scheduler._reqs_need_send[request.request_id] = until
        return is_kept, signed_params(params["ticket"], said, self._key)

    # Worker's half.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        layers = dict(sorted(kv_caches.items(), key=lambda each: extract_layer_index(each[0])))
        self.layout = layout_of(self._vllm_config, self._kv_cache_config, layers)
        num_bytes = sum(layer.numel() * layer.element_size() for layer in layers.values())
        self._block_bytes = num_bytes // self._kv_cache_config.num_blocks
        super().register_kv_caches(kv_caches)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        now = time.monotonic()
        for request_id, (params, num_blocks) in connector_metadata.baton_opened.items():
            until = now + params.get("lease_seconds", 0.0)
            is_load = params["leg"] == "decode"
            num_bytes = num_blocks * self._block_bytes
            hold = NixlHold(params["ticket"], num_bytes, is_load, now, until)
            self.ledger.open(request_id, hold)
        self.ledger.sent(connector_metadata.reqs_not_processed, "aborted")

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        leases = self.connector_worker._reqs_to_send
        for request_id in self.ledger.revoked & leases.keys():
            leases[request_id] = 0.0
        before = time.perf_counter()
        late = {request_id for request_id, until in leases.items() if until <= before}
        revoked = self.ledger.revoked
        results = super().get_transfer_results(finished_req_ids)
        sent, failed = results.finished_sending, results.failed_recving
        self.ledger.sent(sent & revoked, "revoked")
        self.ledger.sent(sent & late, "expired")
        self.ledger.sent(sent)
        self.ledger.loaded(failed, time.monotonic(), "nixl")
        self.ledger.loaded(results.finished_recving, time.monotonic())
        return results

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        if self.connector_worker is None:
            return None
        moved = self.connector_worker.xfer_stats.clone_and_reset()
        self.ledger.received(sum(moved.data["bytes_transferred"]))
        stats = self.stats()
        if stats == self._told:
            return None
        self._told = stats
        return BatonStats(data=asdict(stats))

    @classmethod
    def build_kv_connector_stats(
        cls, data: dict[str, Any] | None = None
    ) -> KVConnectorStats | None:
        return BatonStats(data=data or asdict(Transfers()))

    def stats(self) -> Transfers:
        return self.ledger.stats(len(self.connector_worker._remote_agents))

    @property
    def address(self) -> NixlAddress:
        parallel = self._vllm_config.parallel_config
        return NixlAddress(
            self.engine_id,
            envs.VLLM_NIXL_SIDE_CHANNEL_HOST,
            envs.VLLM_NIXL_SIDE_CHANNEL_PORT + parallel.data_parallel_index,
            self.connector_worker.transfer_tp_size,
            parallel.pipeline_parallel_size,
        )

    def introduce(self, peer: NixlAddress) -> None:
        """Shakes hands now, before a request needs it."""
        self.connector_worker._ensure_handshake(
            peer.engine_id, peer.host, peer.port, peer.tp_size, 1, peer.pp_size
        )
