"""How one engine is to run, in vLLM's terms."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from vllm.config import KVEventsConfig, KVTransferConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from kvtransfer.offload import OffloadPlan
from worker.engine_failure import one_line
from worker.engine_scheduler import ITL_GOAL, QuietAsyncScheduler, QuietScheduler
from worker.engine_words import check_words
from worker.environment import bind_ranks
from worker.errors import BadSettings, EngineNotStarted
from worker.memory import GIB, check_memory
from worker.model_folder import ModelFolder

# An engine takes aborts between steps, and a CPU computes some 500 tokens a second.
CPU_STEP_TOKENS = 640
# Of a step's tokens, what one long prompt may take: a short one gets in beside it.
LONG_PROMPT_SHARE = 0.8
EXTENSIONS = {
    "baton": "kvtransfer.extension.TransferExtension",
    "nixl": "kvtransfer.nixl_extension.NixlExtension",
}


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How to run one engine. `kv_role` is vLLM's: kv_producer, kv_consumer or kv_both. `ucx`
    holds UCX settings without their UCX_ prefix. The connector reads `fleet_key_file` itself:
    vLLM logs what it is configured with.
    """

    model: ModelFolder
    kv_role: str
    staging_bytes: int
    fleet_key_file: Path
    kv_staging: str = "host"
    kv_wire: str = "raw"
    kv_stall_seconds: float = 10.0
    kv_max_loads: int = 256
    itl_goal_seconds: float = 0.0
    kv_connector: str = "baton"
    kv_fault: str = "none"
    offload: OffloadPlan | None = None
    ucx: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "auto"
    max_model_len: int | None = None
    words: str = ""

    def configure(self, block_endpoint: str) -> VllmConfig:
        """`block_endpoint`: where the scheduler tells of its blocks. Raises StartError."""
        arguments = self._arguments()
        arguments.kv_events_config = KVEventsConfig(
            enable_kv_cache_events=True,
            # Our scheduler has one of its own.
            publisher="null",
            endpoint=block_endpoint,
        )
        try:
            config = arguments.create_engine_config()
        except Exception as error:
            raise EngineNotStarted(f"vLLM refuses this: {one_line(error)}") from error
        scheduling = config.scheduler_config
        scheduling.scheduler_cls = (
            QuietAsyncScheduler if scheduling.async_scheduling else QuietScheduler
        )
        config.additional_config[ITL_GOAL] = self.itl_goal_seconds
        if not scheduling.long_prefill_token_threshold:
            longest = int(scheduling.max_num_batched_tokens * LONG_PROMPT_SHARE)
            scheduling.long_prefill_token_threshold = longest
        if current_platform.is_cpu():
            self._prepare_cpu(config)
        return config

    def _arguments(self) -> AsyncEngineArgs:
        words = shlex.split(self.words)
        check_words(words)
        parser = AsyncEngineArgs.add_cli_args(WordParser(prog="--engine-args", add_help=False))
        parser.set_defaults(
            model=str(self.model.path),
            enable_prefix_caching=True,
            prefix_caching_hash_algo="sha256_cbor",
        )
        if current_platform.is_cpu():
            parser.set_defaults(max_num_batched_tokens=CPU_STEP_TOKENS)
        arguments = AsyncEngineArgs.from_cli_args(parser.parse_args(words))
        if self.dtype != "auto":
            arguments.dtype = self.dtype
        if self.max_model_len is not None:
            arguments.max_model_len = self.max_model_len
        # With torch.compile the CPU build takes minutes to start.
        arguments.enforce_eager |= current_platform.is_cpu()
        arguments.worker_extension_cls = EXTENSIONS[self.kv_connector]
        arguments.kv_transfer_config = self._transfer_config()
        num_ranks = arguments.tensor_parallel_size * arguments.pipeline_parallel_size
        # The class and not its name, which the CPU build would replace.
        arguments.distributed_executor_backend = UniProcExecutor if num_ranks == 1 else "mp"
        return arguments

    def _transfer_config(self) -> KVTransferConfig:
        connector = self._connector()
        return KVTransferConfig(**self.offload.beside(connector) if self.offload else connector)

    def _connector(self) -> dict[str, Any]:
        """Raises BadSettings."""
        if self.kv_connector == "nixl":
            self._check_nixl()
            return self._nixl()
        if self.kv_staging == "device" and not current_platform.is_cuda_alike():
            raise BadSettings("--kv-staging device: this engine has no GPU: use --kv-staging host")
        return {
            "kv_connector": "BatonConnector",
            "kv_connector_module_path": "kvtransfer.connector",
            "kv_role": self.kv_role,
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {
                "staging_bytes": self.staging_bytes,
                "staging": self.kv_staging,
                "fleet_key_file": str(self.fleet_key_file.absolute()),
                "wire": self.kv_wire,
                "stall_seconds": self.kv_stall_seconds,
                "max_loads": self.kv_max_loads,
                "fault": self.kv_fault,
                "ucx": dict(self.ucx),
            },
        }

    def _check_nixl(self) -> None:
        """Raises BadSettings for what NIXL would not heed."""
        if self.kv_wire != "raw":
            raise BadSettings("--kv-wire: NIXL moves KV as it is: leave it out")
        if self.kv_staging != "host":
            raise BadSettings("--kv-staging: NIXL moves KV without staging: leave it out")

    def _nixl(self) -> dict[str, Any]:
        if find_spec("nixl") is None:
            raise BadSettings("--kv-connector nixl: NIXL is not installed: `make setup NIXL=1`")
        extra: dict[str, Any] = {"fleet_key_file": str(self.fleet_key_file.absolute())}
        if current_platform.is_cpu():
            # Each thread takes time from the model.
            extra["num_threads"] = 1
        return {
            "kv_connector": "NixlHandoffConnector",
            "kv_connector_module_path": "kvtransfer.nixl_connector",
            "kv_role": self.kv_role,
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": extra,
        }

    def _prepare_cpu(self, config: VllmConfig) -> None:
        dtype = str(config.model_config.dtype).removeprefix("torch.")
        kv_cache_bytes = config.cache_config.kv_cache_memory_bytes or GIB
        offload_bytes = self.offload.host_bytes if self.offload else 0
        check_memory(self.model.weight_bytes(dtype), kv_cache_bytes, offload_bytes)
        num_ranks = config.parallel_config.world_size
        if num_ranks == 1:
            # As vLLM does on a GPU. A spawned process would import everything once more.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        elif os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
            binding = bind_ranks(sorted(os.sched_getaffinity(0)), num_ranks)
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = binding


class WordParser(FlexibleArgumentParser):  # type: ignore[misc]
    """vLLM's own parser, that refuses by BadSettings."""

    def error(self, message: str) -> NoReturn:
        raise BadSettings(f"--engine-args: {message}")
