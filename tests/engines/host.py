"""A process with one vLLM engine and our connector in it, told what to do over a pipe.

No worker, session or gateway: what is tested is the hand-off between two engines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil

from baton.segments import SegmentLedger
from kvtransfer.offload import OffloadPlan

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
IDLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`transfer` goes to the connector, `engine` to vLLM. `events`: where KV events are told."""

    model: str
    cores: tuple[int, ...]
    transfer: Mapping[str, Any]
    engine: Mapping[str, Any] = field(default_factory=dict)
    offload: OffloadPlan | None = None
    events: str = ""

    @property
    def num_ranks(self) -> int:
        size = self.engine.get("tensor_parallel_size", 1)
        return int(size * self.engine.get("pipeline_parallel_size", 1))


@dataclass(frozen=True, slots=True)
class Generate:
    """`salt` keeps the prefix cache from knowing the prompt."""

    request_id: str
    prompt: tuple[int, ...]
    max_tokens: int
    salt: str
    handoff: Mapping[str, Any] | None = None
    num_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """`logprobs` has for each token those of the best ones, by their ids."""

    request_id: str
    tokens: tuple[int, ...]
    logprobs: tuple[Mapping[int, float], ...] = ()
    num_cached: int = 0


def serve(pipe: Connection, settings: HostSettings) -> None:
    """Takes Generate, a method of the ranks to ask with its arguments, and None at the end."""
    os.environ.update(ENVIRONMENT)
    cores = settings.cores
    binding = "|".join(str(cores[rank % len(cores)]) for rank in range(settings.num_ranks))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = binding if settings.num_ranks > 1 else "nobind"
    os.sched_setaffinity(0, set(cores))
    segments = SegmentLedger()
    engine = _start(settings)
    engine.collective_rpc("baton_prepare_stage")
    pipe.send("ready")
    while True:
        is_busy = engine.has_unfinished_requests()
        while pipe.poll(0 if is_busy else IDLE_SECONDS):
            order = pipe.recv()
            if order is None:
                # vLLM leaves the shared memory between two ranks behind.
                segments.note(child.pid for child in psutil.Process().children(recursive=True))
                engine.engine_core.shutdown()
                segments.sweep()
                pipe.send("ended")
                return
            if isinstance(order, Generate):
                _add(engine, order)
                is_busy = True
            else:
                method, *arguments = order
                pipe.send(engine.collective_rpc(method, args=tuple(arguments)))
        for output in engine.step():
            if output.finished:
                pipe.send(_generated(output))


def _start(settings: HostSettings) -> Any:
    from vllm.config import KVTransferConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    arguments = EngineArgs(
        **{
            "model": settings.model,
            "dtype": "float32",
            "enforce_eager": True,
            "skip_tokenizer_init": True,
            "max_num_batched_tokens": 256,
            "max_model_len": 2048,
            "distributed_executor_backend": UniProcExecutor if settings.num_ranks == 1 else "mp",
            "worker_extension_cls": "tests.engines.extension.WatchedExtension",
            "kv_transfer_config": KVTransferConfig(**_connector(settings)),
            "kv_events_config": _events(settings),
            # It knows no connectors but vLLM's own, if there are several.
            "disable_log_stats": settings.offload is not None,
            **settings.engine,
        }
    )
    return LLMEngine.from_engine_args(arguments, enable_multiprocessing=False)


def _connector(settings: HostSettings) -> dict[str, Any]:
    connector = {
        "kv_connector": "BatonConnector",
        "kv_connector_module_path": "kvtransfer.connector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": dict(settings.transfer),
    }
    return settings.offload.beside(connector) if settings.offload else connector


def _events(settings: HostSettings) -> Any:
    from vllm.config import KVEventsConfig

    if not settings.events:
        return None
    return KVEventsConfig(
        enable_kv_cache_events=True, publisher="zmq", endpoint=settings.events, topic="kv"
    )


def _add(engine: Any, order: Generate) -> None:
    from vllm import SamplingParams

    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=order.max_tokens,
        ignore_eos=True,
        detokenize=False,
        logprobs=order.num_logprobs,
        extra_args={"kv_transfer_params": dict(order.handoff)} if order.handoff else None,
    )
    prompt = {"prompt_token_ids": list(order.prompt), "cache_salt": order.salt}
    engine.add_request(order.request_id, prompt, sampling)


def _generated(output: Any) -> Generated:
    found = output.outputs[0]
    logprobs = tuple(
        {token: each.logprob for token, each in step.items()} for step in found.logprobs or ()
    )
    return Generated(
        output.request_id, tuple(found.token_ids), logprobs, output.num_cached_tokens or 0
    )
