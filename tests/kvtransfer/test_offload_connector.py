"""vLLM's own scheduler over Baton's connector and the offloading one, without an engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.config import KVTransferConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256_cbor
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from kvtransfer.handoff import DecodeHandoff, to_params
from kvtransfer.offload import OffloadPlan
from kvtransfer.offload_connector import OffloadStats
from kvtransfer.offload_stats import Offloads
from tests.gateway.tiny_model import make_tiny_model

BLOCK_SIZE = 16
# vLLM keeps one for itself: two prompts of two blocks have room.
NUM_BLOCKS = 5
NUM_TOKENS = 2 * BLOCK_SIZE
BATON = {
    "kv_connector": "BatonConnector",
    "kv_connector_module_path": "kvtransfer.connector",
    "kv_role": "kv_both",
    "kv_load_failure_policy": "recompute",
}


class Engine:
    """The scheduler's half of one; what its worker did is told by the test.

    Of the last step: `told` is what was counted, `loads` are the orders for Baton's connector.
    """

    told: Any = None
    loads: Any = ()

    def __init__(self, folder: Path) -> None:
        plan = OffloadPlan(host_bytes=2**20)
        config = EngineArgs(
            model=str(make_tiny_model(folder)),
            block_size=BLOCK_SIZE,
            enforce_eager=True,
            max_num_batched_tokens=256,
            kv_transfer_config=KVTransferConfig(**plan.beside(BATON)),
        ).create_engine_config()
        config.cache_config.num_gpu_blocks = NUM_BLOCKS
        spec = FullAttentionSpec(BLOCK_SIZE, num_kv_heads=1, head_size=16, dtype=torch.float32)
        groups = [KVCacheGroupSpec(["layer.0", "layer.1"], spec)]
        self.scheduler = Scheduler(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(NUM_BLOCKS, [], groups),
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK_SIZE,
            log_stats=True,
        )
        init_none_hash(sha256_cbor)
        self._hasher = get_request_block_hasher(BLOCK_SIZE, sha256_cbor)

    def add(self, name: str, first_token: int, handoff: dict[str, Any] | None = None) -> None:
        """A prompt of NUM_TOKENS and one more; one token is asked for."""
        sampling = SamplingParams(max_tokens=1, ignore_eos=True)
        sampling.extra_args = {"kv_transfer_params": handoff} if handoff else None
        tokens = [first_token + i for i in range(NUM_TOKENS + 1)]
        request = Request(name, tokens, sampling, None, block_hasher=self._hasher)
        self.scheduler.add_request(request)

    def step(self, stored: tuple[int, ...] = ()) -> Any:
        """One step; the metadata for the offloading connector. `stored` jobs have ended, and
        have moved a byte each.
        """
        scheduled = self.scheduler.schedule()
        names = list(scheduled.num_scheduled_tokens)
        connector = self.scheduler.connector
        told = KVConnectorOutput(kv_connector_worker_meta=worker_meta(connector, stored))
        outputs = self.scheduler.update_from_output(
            scheduled,
            ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: i for i, name in enumerate(names)},
                sampled_token_ids=[[7] for _ in names],
                kv_connector_output=told,
            ),
        )
        self.told = outputs[0].scheduler_stats.kv_connector_stats
        baton, offload = scheduled.kv_connector_metadata.metadata
        self.loads = baton.orders.loads
        return offload


def worker_meta(connector: Any, stored: tuple[int, ...]) -> Any:
    from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import (
        MultiKVConnectorWorkerMetadata,
    )
    from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import (
        OffloadingWorkerMetadata,
    )

    found = OffloadingWorkerMetadata(completed_jobs=dict.fromkeys(stored, 1))
    for _ in stored:
        found.transfer_stats.store.record(1, 0.5)
    return MultiKVConnectorWorkerMetadata((None, found))


def make_handoff() -> dict[str, Any]:
    return to_params(DecodeHandoff(secrets.token_bytes(16), 30.0, "p/1", (b"address",)))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    engine = Engine(tmp_path)
    yield engine
    engine.scheduler.shutdown()


def test_blocks_are_stored_before_what_comes_from_elsewhere_is_put_in_them(
    engine: Engine,
) -> None:
    engine.add("cold", 100)
    (job,) = engine.step().store_jobs
    engine.add("other", 200)
    engine.step()
    engine.add("loaded", 300, make_handoff())
    assert job in engine.step().jobs_to_flush


def test_cold_kv_is_loaded(engine: Engine) -> None:
    engine.add("cold", 100)
    engine.step(stored=tuple(engine.step().store_jobs))
    engine.scheduler.reset_prefix_cache()
    engine.add("again", 100)
    assert [each.req_id for each in engine.step().load_jobs.values()] == ["again"]


def test_a_prompt_that_comes_from_elsewhere_waits_for_no_cold_kv(engine: Engine) -> None:
    engine.add("cold", 100)
    assert engine.step().store_jobs
    engine.scheduler.reset_prefix_cache()
    engine.add("waits for it", 100)
    engine.add("handed over", 100, make_handoff())
    assert not engine.step().load_jobs
    assert [each.request_id for each in engine.loads] == ["handed over"]


def test_only_what_has_changed_is_told(engine: Engine) -> None:
    engine.add("cold", 100)
    jobs = tuple(engine.step().store_jobs)
    assert not engine.told
    engine.add("busy", 200)
    engine.step(stored=jobs)
    assert engine.told["OffloadConnector"]["stored_bytes"] == len(jobs) == 1
    engine.add("busier", 300)
    engine.step()
    assert not engine.told


def test_the_later_count_has_it_all() -> None:
    earlier, later = OffloadStats(data={"loads": 1}), OffloadStats(data={"loads": 3})
    assert earlier.aggregate(later).reduce() == {"loads": 3}
    assert OffloadStats(data={}).is_empty()
    assert Offloads(**later.reduce()).loads == 3  # type: ignore[arg-type]
