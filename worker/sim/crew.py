"""The simulated workers of one process: who they are, and the engine of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fleet.member import new_incarnation
from proto import worker_pb2
from worker.errors import BadSettings
from worker.interface import EngineFacts
from worker.leg import Leg, Role
from worker.request_check import RequestLimits
from worker.sim.core import SimCore
from worker.sim.engine import Codec, SimEngine
from worker.sim.fabric import SimFabric
from worker.sim.limits import SimLimits
from worker.sim.model import SimModel
from worker.sim.profile import SimProfile
from worker.sim.settings import SimSettings, slow_factors
from worker.sim.timeline import Timeline

BYTES_PER_GBIT = 1e9 / 8
LONG_PROMPT_SHARE = 0.8
LEGS = MappingProxyType(
    {Role.PREFILL: Leg(Role.PREFILL, 1024), Role.DECODE: Leg(Role.DECODE, 4096)}
)


@dataclass(frozen=True, slots=True)
class SimWorker:
    worker_id: str
    incarnation: str
    legs: tuple[Leg, ...]
    engine: SimEngine

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(leg.role for leg in self.legs)


def make_crew(
    settings: SimSettings, model: SimModel, codec: Codec, vllm_version: str, timeline: Timeline
) -> list[SimWorker]:
    """Raises BadSettings."""
    limits, profile = limits_of(settings, model), profile_of(settings)
    factors = slow_factors(settings.slow)
    places = places_of(settings)
    if strangers := factors.keys() - places.keys():
        raise BadSettings(f"--slow: there is no worker {min(strangers)}")
    fabric = SimFabric(
        timeline, model.layout.bytes_per_token, model.layout.num_layers, profile.latency_seconds
    )
    crew = []
    for worker_id, roles in places.items():
        incarnation = new_incarnation()
        address = f"sim:{worker_id}/{incarnation}".encode()
        pace = profile.times(factors.get(worker_id, 1.0))
        core = SimCore(address, limits, pace, model.answers, timeline, fabric)
        facts = facts_of(limits, model, vllm_version, address)
        checks = RequestLimits(limits.max_model_len, model.vocab_size)
        engine = SimEngine(core, codec, facts, checks, time.monotonic, len(places))
        crew.append(SimWorker(worker_id, incarnation, tuple(map(LEGS.__getitem__, roles)), engine))
    return crew


def places_of(settings: SimSettings) -> dict[str, Sequence[Role]]:
    """The roles of each worker. Raises BadSettings if there is none."""
    kinds: dict[str, tuple[int, Sequence[Role]]] = {
        "prefill": (settings.prefill, (Role.PREFILL,)),
        "decode": (settings.decode, (Role.DECODE,)),
        "both": (settings.both, (Role.PREFILL, Role.DECODE)),
    }
    places = {f"{kind}-{i}": roles for kind, (num, roles) in kinds.items() for i in range(num)}
    if not places:
        raise BadSettings("--prefill, --decode, --both: at least one worker is needed")
    return places


def profile_of(settings: SimSettings) -> SimProfile:
    """Raises BadSettings."""
    profile = SimProfile.read(settings.profile) if settings.profile else SimProfile()
    if settings.bandwidth_gbps:
        profile = profile.with_bandwidth(settings.bandwidth_gbps * BYTES_PER_GBIT)
    return profile.faster(settings.speed)


def limits_of(settings: SimSettings, model: SimModel) -> SimLimits:
    """Raises BadSettings."""
    try:
        return SimLimits(
            num_blocks=settings.kv_blocks,
            block_size=settings.block_size,
            max_model_len=model.max_model_len,
            max_running=settings.max_num_seqs,
            max_batch_tokens=settings.max_num_batched_tokens,
            max_chunk_tokens=chunk_tokens(settings),
            max_loads=settings.kv_max_loads,
            itl_goal_seconds=settings.itl_goal_seconds,
        )
    except ValueError as error:
        raise BadSettings(f"--kv-blocks, --max-model-len: {error}") from error


def chunk_tokens(settings: SimSettings) -> int:
    """Without a setting, a short prompt gets in beside a long one, as in a real worker."""
    share = int(settings.max_num_batched_tokens * LONG_PROMPT_SHARE)
    return settings.long_prefill_token_threshold or max(1, share)


def facts_of(limits: SimLimits, model: SimModel, vllm_version: str, address: bytes) -> EngineFacts:
    return EngineFacts(
        vllm_version=vllm_version,
        kv_layout=model.layout.to_proto(),
        capacity=worker_pb2.Capacity(
            num_kv_blocks=limits.num_blocks,
            max_model_len=limits.max_model_len,
            max_num_seqs=limits.max_running,
            max_num_batched_tokens=limits.max_batch_tokens,
            itl_goal_seconds=limits.itl_goal_seconds,
        ),
        transfer_addresses=(address,),
    )
