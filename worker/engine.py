"""vLLM's engine core behind our interface. The only file of this room that imports vLLM.

Written against vLLM 0.32: vllm/v1/engine/core_client.py and core.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import vllm
from torch.distributed import distributed_c10d
from vllm.config import KVTransferConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest
from vllm.v1.engine.core import EngineCoreProc
from vllm.v1.engine.core_client import AsyncMPClient, EngineCoreClient
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor import Executor
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from proto import worker_pb2
from worker.engine_failure import cause_of, exit_reason, one_line
from worker.engine_words import check_words
from worker.environment import bind_ranks
from worker.errors import BadRequest, BadSettings, EngineLost, EngineNotStarted
from worker.interface import EngineFacts
from worker.leg import Order, extra_args
from worker.lifeline import die_with
from worker.load import Load, sum_of_ranks
from worker.memory import GIB, check_memory
from worker.model_folder import ModelFolder
from worker.request_check import RequestLimits

STOP_SECONDS = 2.0
WARM_UP_SECONDS = 120.0
WARM_UP_PROMPT = (1, 2, 3, 4)

logger = logging.getLogger(__name__)
run_vllm_engine_core = EngineCoreProc.run_engine_core


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How to run one engine. `kv_role` is vLLM's: kv_producer, kv_consumer or kv_both."""

    model: ModelFolder
    kv_role: str
    staging_bytes: int
    kv_fault: str = "none"
    dtype: str = "auto"
    max_model_len: int | None = None
    words: str = ""

    def configure(self) -> VllmConfig:
        """Raises StartError."""
        arguments = self._arguments()
        try:
            config = arguments.create_engine_config()
        except Exception as error:
            raise EngineNotStarted(f"vLLM refuses this: {one_line(error)}") from error
        scheduling = config.scheduler_config
        scheduling.scheduler_cls = (
            QuietAsyncScheduler if scheduling.async_scheduling else QuietScheduler
        )
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
        arguments = AsyncEngineArgs.from_cli_args(parser.parse_args(words))
        if self.dtype != "auto":
            arguments.dtype = self.dtype
        if self.max_model_len is not None:
            arguments.max_model_len = self.max_model_len
        # With torch.compile the CPU build takes minutes to start.
        arguments.enforce_eager |= current_platform.is_cpu()
        arguments.worker_extension_cls = "kvtransfer.extension.TransferExtension"
        arguments.kv_transfer_config = self._transfer_config()
        num_ranks = arguments.tensor_parallel_size * arguments.pipeline_parallel_size
        # The class and not its name, which the CPU build would replace.
        arguments.distributed_executor_backend = UniProcExecutor if num_ranks == 1 else "mp"
        return arguments

    def _transfer_config(self) -> KVTransferConfig:
        return KVTransferConfig(
            kv_connector="BatonConnector",
            kv_connector_module_path="kvtransfer.connector",
            kv_role=self.kv_role,
            kv_load_failure_policy="recompute",
            kv_connector_extra_config={
                "staging_bytes": self.staging_bytes,
                "fault": self.kv_fault,
            },
        )

    def _prepare_cpu(self, config: VllmConfig) -> None:
        dtype = str(config.model_config.dtype).removeprefix("torch.")
        kv_cache_bytes = config.cache_config.kv_cache_memory_bytes or GIB
        check_memory(self.model.weight_bytes(dtype), kv_cache_bytes)
        num_ranks = config.parallel_config.world_size
        if num_ranks == 1:
            # As vLLM does on a GPU. A spawned process would import everything once more.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        elif os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
            binding = bind_ranks(sorted(os.sched_getaffinity(0)), num_ranks)
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = binding


class WordParser(FlexibleArgumentParser):
    """vLLM's own parser, that refuses by BadSettings."""

    def error(self, message: str) -> NoReturn:
        raise BadSettings(f"--engine-args: {message}")


@asynccontextmanager
async def open_engine(plan: EnginePlan) -> AsyncIterator[VllmEngine]:
    """A running and warm engine. Raises StartError.

    Blocks the event loop while the engine starts: its process must be a child of this very
    thread, see `die_with`.
    """
    config = plan.configure()
    core, failures = start_core(config)
    try:
        engine = VllmEngine(core, config, failures, await learn_facts(core, config))
        await engine.warm_up()
        yield engine
    except EngineDeadError as error:
        raise EngineNotStarted(f"the engine died: {failures.reason(core)}") from error
    finally:
        core.shutdown(timeout=STOP_SECONDS)


def start_core(config: VllmConfig) -> tuple[AsyncMPClient, Failures]:
    """Raises EngineNotStarted. Takes as long as loading the model does."""
    failures = Failures()
    try:
        with failures.watched():
            core = EngineCoreClient.make_async_mp_client(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=True,
            )
    except Exception as error:
        _, said = failures.read() or ("", None)
        reason = cause_of(error, said)
        raise EngineNotStarted(f"the engine did not start: {reason}") from error
    return core, failures


class Failures:
    """A pipe on which the engine's process says why it ends."""

    def __init__(self) -> None:
        self._reader, self._writer = Pipe(duplex=False)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Engine processes that start within write to this pipe, and die with us."""
        EngineCoreProc.run_engine_core = partial(run_engine_core, self._writer)
        try:
            yield
        finally:
            EngineCoreProc.run_engine_core = staticmethod(run_vllm_engine_core)
            self._writer.close()

    def read(self) -> tuple[str, str] | None:
        """The kind of the error and what it says; None if the process said nothing."""
        try:
            return self._reader.recv() if self._reader.poll() else None
        except (EOFError, OSError):
            return None

    def reason(self, core: AsyncMPClient) -> str:
        """Of an engine that ran. Only the kind of error: its text might hold a prompt's tokens."""
        if reported := self.read():
            return f"{reported[0]}; its log says more"
        codes = core.resources.engine_manager.finished_procs().values()
        return next((exit_reason(code) for code in codes if code), "its process ended")


def run_engine_core(failures: Connection, *args: Any, **kwargs: Any) -> None:
    """The engine process's main function."""
    parent = parent_process()
    assert parent is not None and parent.pid is not None
    die_with(parent.pid)
    share_gloo_device()
    try:
        run_vllm_engine_core(*args, **kwargs)
    except Exception as error:
        failures.send((type(error).__name__, one_line(error)))
        raise


def share_gloo_device() -> None:
    """One network thread for all of torch's process groups in this process.

    vLLM makes a dozen of them, needed or not, and each would wake up every 10 ms for ever.
    """
    if not distributed_c10d.is_gloo_available():
        return
    gloo = distributed_c10d.ProcessGroupGloo
    device = gloo.create_default_device()

    class SharingGloo(gloo):  # type: ignore[misc, valid-type]
        def __init__(self, store: object, rank: int, size: int, timeout: timedelta) -> None:
            options = gloo._Options()
            options._devices = [device]
            options._timeout = timeout
            super().__init__(store, rank, size, options)

    distributed_c10d.ProcessGroupGloo = SharingGloo


async def learn_facts(core: AsyncMPClient, config: VllmConfig) -> EngineFacts:
    layouts = [json.loads(each) for each in await core.collective_rpc_async("baton_kv_layout")]
    names = worker_pb2.KvLayout.DESCRIPTOR.fields_by_name
    layout = {name: value for name, value in layouts[0].items() if name in names}
    addresses = await core.collective_rpc_async("baton_transfer_address")
    return EngineFacts(
        vllm_version=vllm.__version__,
        kv_layout=worker_pb2.KvLayout(**layout),
        capacity=worker_pb2.Capacity(
            num_kv_blocks=config.cache_config.num_gpu_blocks,
            max_model_len=config.model_config.max_model_len,
            max_num_seqs=config.scheduler_config.max_num_seqs,
            max_num_batched_tokens=config.scheduler_config.max_num_batched_tokens,
        ),
        transfer_addresses=tuple(addresses),
    )


class VllmEngine:
    """See `worker.interface.Engine`."""

    def __init__(
        self, core: AsyncMPClient, config: VllmConfig, failures: Failures, facts: EngineFacts
    ) -> None:
        self.facts = facts
        self._core = core
        self._config = config
        self._failures = failures
        self._limits = limits_of(config)
        self._decoder = MsgpackDecoder(EngineCoreRequest)
        self._encoder = MsgpackEncoder()
        self._load = Load(num_kv_blocks=facts.capacity.num_kv_blocks)

    async def submit(self, order: Order) -> None:
        request = self._shape(order)
        try:
            await self._core.add_request_async(request)
        except EngineDeadError as error:
            raise self._lost() from error

    async def abort(self, engine_ids: Sequence[str]) -> None:
        try:
            await self._core.abort_requests_async(list(engine_ids))
        except EngineDeadError:
            logger.debug("nothing to abort: the engine has died")

    async def revoke(self, ticket_id: bytes, reason: str) -> bool:
        return any(await self._ask("baton_revoke", ticket_id, reason))

    async def report(self) -> Load:
        transfers = sum_of_ranks(await self._ask("baton_transfers"))
        self._load = replace(self._load, transfers=transfers)
        return self._load

    async def steps(self) -> AsyncIterator[VllmStep]:
        while True:
            try:
                outputs = await self._core.get_output_async()
            except EngineDeadError as error:
                raise self._lost() from error
            yield VllmStep(outputs, self._note(outputs.scheduler_stats), self._encoder)

    async def warm_up(self) -> None:
        """Has everything built that vLLM builds at its first use. Raises EngineNotStarted."""
        waiting = {f"warm-up-{i}": sampling for i, sampling in enumerate(warm_up_samplings())}
        for name, sampling in waiting.items():
            await self._core.add_request_async(warm_up_request(name, sampling))
        try:
            async with asyncio.timeout(WARM_UP_SECONDS):
                while waiting:
                    outputs = await self._core.get_output_async()
                    self._note(outputs.scheduler_stats)
                    for output in outputs.outputs:
                        if output.finished:
                            waiting.pop(output.request_id)
        except TimeoutError as error:
            raise EngineNotStarted(
                f"the engine did not answer within {WARM_UP_SECONDS:g} s"
            ) from error

    def _shape(self, order: Order) -> EngineCoreRequest:
        """Raises BadRequest."""
        request = self._decode(order.frames)
        self._limits.check(request)
        sampling = request.sampling_params
        if order.leg.sampling is not None:
            sampling = SamplingParams(**order.leg.sampling)
        else:
            self._verify(sampling)
        sampling.extra_args = extra_args(sampling.extra_args, order.transfer)
        request.sampling_params = sampling
        request.request_id = order.engine_id
        request.data_parallel_rank = None
        request.abort_immediately = False
        request.current_wave = 0
        return request

    def _decode(self, frames: tuple[bytes, ...]) -> EngineCoreRequest:
        # Tensors stay on the memory they came in, and torch wants that to be writable.
        first, *tensors = frames
        try:
            return self._decoder.decode([first, *map(bytearray, tensors)])
        except Exception as error:
            kind = type(error).__name__
            raise BadRequest(f"the request cannot be decoded ({kind})") from error

    def _verify(self, sampling: SamplingParams) -> None:
        """Structured outputs are left to the engine: it fails such a request alone."""
        config = self._config
        try:
            sampling.n = 1
            sampling.verify(config.model_config, config.speculative_config, None, None)
        except Exception as error:
            parameter = getattr(error, "parameter", None) or "a sampling parameter"
            raise BadRequest(f"the engine refuses {parameter}") from error

    def _note(self, stats: SchedulerStats | None) -> Load | None:
        if stats is None:
            return None
        num_blocks = self.facts.capacity.num_kv_blocks
        moved = stats.kv_connector_stats
        self._load = Load(
            num_running=stats.num_running_reqs,
            num_waiting=stats.num_waiting_reqs + stats.num_skipped_waiting_reqs,
            num_kv_blocks=num_blocks,
            # vLLM keeps one block for itself.
            num_kv_blocks_used=round(stats.kv_cache_usage * (num_blocks - 1)),
            transfers=sum_of_ranks([moved]) if moved else self._load.transfers,
        )
        return self._load

    async def _ask(self, method: str, *args: object) -> list[Any]:
        """One answer per rank. Raises EngineLost."""
        try:
            answers: list[Any] = await self._core.collective_rpc_async(method, args=args)
        except EngineDeadError as error:
            raise self._lost() from error
        return answers

    def _lost(self) -> EngineLost:
        return EngineLost(self._failures.reason(self._core))


@dataclass(frozen=True, slots=True)
class VllmStep:
    """See `worker.interface.Step`."""

    batch: EngineCoreOutputs
    load: Load | None
    encoder: MsgpackEncoder

    def outputs(self) -> Iterable[tuple[str, bool]]:
        return ((each.request_id, each.finish_reason is not None) for each in self.batch.outputs)

    def encode(self, names: Mapping[str, str]) -> Sequence[bytes]:
        chosen = [each for each in self.batch.outputs if each.request_id in names]
        for each in chosen:
            each.request_id = names[each.request_id]
        part = EngineCoreOutputs(outputs=chosen, timestamp=self.batch.timestamp)
        frames: Sequence[bytes] = self.encoder.encode(part)
        return frames


def limits_of(config: VllmConfig) -> RequestLimits:
    model = config.model_config
    return RequestLimits(
        max_model_len=model.max_model_len,
        vocab_size=model.get_vocab_size(),
        takes_embeds=model.enable_prompt_embeds,
        takes_multimodal=model.is_multimodal_model,
        takes_lora=config.lora_config is not None,
    )


def warm_up_samplings() -> tuple[SamplingParams, ...]:
    grammar = StructuredOutputsParams(regex="[0-9]{1,4}")
    # The engine takes its first grammar's backend for good; this is vLLM's first choice.
    grammar._backend = "xgrammar"
    return (
        SamplingParams(temperature=0.0, max_tokens=2, ignore_eos=True),
        SamplingParams(
            temperature=0.9, top_p=0.9, top_k=8, seed=1, logprobs=1, max_tokens=2,
            repetition_penalty=1.1, presence_penalty=0.1, ignore_eos=True,
        ),
        SamplingParams(temperature=0.0, max_tokens=2, structured_outputs=grammar),
    )  # fmt: skip


def warm_up_request(name: str, sampling: SamplingParams) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=list(WARM_UP_PROMPT),
        mm_features=None,
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


class QuietScheduler(Scheduler):
    """Reports only what has changed.

    While it waits for KV from elsewhere, an engine steps every millisecond. Without this,
    each such step would cost a message, and its decoding here.
    """

    _reported: tuple[int, int, float] | None = None

    def make_stats(
        self,
        spec_decoding_stats: object = None,
        kv_connector_stats: object = None,
        *args: object,
        **kwargs: object,
    ) -> SchedulerStats | None:
        state = (*self.get_request_counts(), self.get_kv_cache_usage())
        if state == self._reported and kv_connector_stats is None:
            return None
        self._reported = state
        return super().make_stats(spec_decoding_stats, kv_connector_stats, *args, **kwargs)


class QuietAsyncScheduler(QuietScheduler, AsyncScheduler):
    """The same over vLLM's scheduler for asynchronous execution."""
