"""vLLM's engine core behind our interface.

With the other engine_*.py the only file of this room that imports vLLM. Written against
vllm/v1/engine/core_client.py of vLLM 0.32.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import vllm
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from fleet.block_news import unpack
from kvtransfer.offload_stats import Offloads
from kvtransfer.stats import total
from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.layout import KvLayout
from worker.block_change import BlockChange
from worker.engine_blocks import BlockFeed
from worker.engine_plan import EnginePlan
from worker.engine_process import Failures, start_core
from worker.engine_scheduler import ITL_GOAL
from worker.engine_warm_up import warm_up
from worker.errors import BadRequest, EngineLost, EngineNotStarted
from worker.interface import EngineFacts
from worker.leg import Order, extra_args, transfer_params
from worker.load import Load, by_connector, held_by_ranks
from worker.request_check import RequestLimits
from worker.ticket_check import check_prompt

STOP_SECONDS = 2.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_engine(plan: EnginePlan, key: FleetKey) -> AsyncIterator[VllmEngine]:
    """A running and warm engine. Raises StartError.

    Blocks the event loop while the engine starts: its process must be a child of this very
    thread, see `die_with`.
    """
    with BlockFeed() as feed:
        config = plan.configure(feed.endpoint)
        core, failures = start_core(config)
        try:
            facts = replace(await learn_facts(core, config), kv_connector=plan.kv_connector)
            await warm_up(core)
            engine = VllmEngine(core, config, failures, facts, key, feed)
            yield engine
        except EngineDeadError as error:
            raise EngineNotStarted(f"the engine died: {failures.reason(core)}") from error
        finally:
            core.shutdown(timeout=STOP_SECONDS)


async def learn_facts(core: AsyncMPClient, config: VllmConfig) -> EngineFacts:
    await core.collective_rpc_async("baton_prepare_stage")
    layout, *_ = await core.collective_rpc_async("baton_kv_layout")
    addresses = await core.collective_rpc_async("baton_transfer_address")
    return EngineFacts(
        vllm_version=vllm.__version__,
        kv_layout=KvLayout.from_json(layout).to_proto(),
        capacity=worker_pb2.Capacity(
            num_kv_blocks=config.cache_config.num_gpu_blocks,
            max_model_len=config.model_config.max_model_len,
            max_num_seqs=config.scheduler_config.max_num_seqs,
            max_num_batched_tokens=config.scheduler_config.max_num_batched_tokens,
            itl_goal_seconds=config.additional_config[ITL_GOAL],
        ),
        transfer_addresses=tuple(addresses),
    )


class VllmEngine:
    """See `worker.interface.Engine`."""

    def __init__(
        self,
        core: AsyncMPClient,
        config: VllmConfig,
        failures: Failures,
        facts: EngineFacts,
        key: FleetKey,
        feed: BlockFeed,
    ) -> None:
        self.facts = facts
        self._feed = feed
        self._core = core
        self._config = config
        self._failures = failures
        self._key = key
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

    async def introduce(self, addresses: Sequence[bytes]) -> None:
        await self._ask("baton_introduce", addresses)

    async def part(self, addresses: Sequence[bytes]) -> None:
        await self._ask("baton_part", addresses)

    def block_changes(self) -> AsyncIterator[Sequence[BlockChange]]:
        return self._feed.changes()

    async def held_blocks(self) -> Sequence[int]:
        try:
            keys: bytes = await self._core.call_utility_async("baton_held_blocks")
        except EngineDeadError as error:
            raise self._lost() from error
        return unpack(keys).tolist()

    async def report(self) -> Load:
        moved, held = await asyncio.gather(self._ask("baton_transfers"), self._ask("baton_tickets"))
        self._load = replace(self._load, transfers=total(moved), work=self._feed.work)
        return replace(self._load, held=held_by_ranks(held))

    async def steps(self) -> AsyncIterator[VllmStep]:
        while True:
            try:
                outputs = await self._core.get_output_async()
            except EngineDeadError as error:
                raise self._lost() from error
            yield VllmStep(outputs, self._note(outputs.scheduler_stats), self._encoder)

    def _shape(self, order: Order) -> EngineCoreRequest:
        """Raises BadRequest and TicketRefused."""
        request = self._decode(order.frames)
        self._limits.check(request)
        if order.ticket:
            check_prompt(order.ticket, request)
        sampling = request.sampling_params
        if order.leg.sampling is not None:
            sampling = SamplingParams(**order.leg.sampling)
        else:
            self._verify(sampling)
        transfer = transfer_params(order, self._key, self.facts.kv_connector)
        sampling.extra_args = extra_args(sampling.extra_args, transfer)
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
        moved, offloaded = by_connector(stats.kv_connector_stats)
        self._load = Load(
            num_running=stats.num_running_reqs,
            num_waiting=stats.num_waiting_reqs + stats.num_skipped_waiting_reqs,
            num_kv_blocks=num_blocks,
            # vLLM keeps one block for itself.
            num_kv_blocks_used=round(stats.kv_cache_usage * (num_blocks - 1)),
            transfers=total([moved]) if moved else self._load.transfers,
            offloads=Offloads(**offloaded) if offloaded else self._load.offloads,
            work=self._feed.work,
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
