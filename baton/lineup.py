"""Which processes make up a local fleet, and how each is started."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from baton.cores import CoreAssignment
from baton.environment import (
    Access,
    gateway_environment,
    member_environment,
    process_environment,
    worker_environment,
)
from baton.gpus import MEMORY_SHARE, GpuShare
from baton.settings import UpSettings
from fleet.valkey import ValkeyServer

WORKER_HOST = "127.0.0.1"


class Part(StrEnum):
    GATEWAY = "gateway"
    PREFILL = "prefill"
    DECODE = "decode"
    SIM = "sim"
    VALKEY = "valkey"


# What depends on others stops before them.
STOP_TIERS = {Part.GATEWAY: 0, Part.PREFILL: 1, Part.DECODE: 1, Part.SIM: 1, Part.VALKEY: 2}
# Seconds between SIGTERM and SIGKILL. Together they stay under ten.
GRACE_SECONDS = {
    Part.GATEWAY: 3.0,
    Part.PREFILL: 5.0,
    Part.DECODE: 5.0,
    Part.SIM: 5.0,
    Part.VALKEY: 1.0,
}


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. `workers`: the worker_ids of those that it runs, mostly its own name."""

    name: str
    part: Part
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cores: tuple[int, ...]
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """What this machine gives: the model's folder, the fleet's server and key, cores and GPUs."""

    model: Path
    served_model_name: str
    redis: str
    fleet_key_file: Path
    port: int
    cores: CoreAssignment
    gpus: tuple[GpuShare, ...]
    environment: Mapping[str, str]

    @property
    def access(self) -> Access:
        return Access(self.redis, self.fleet_key_file)


def line_up(settings: UpSettings, site: Site) -> tuple[ProcessSpec, ...]:
    """The workers, prefill before decode, and then the gateway."""
    if settings.sim:
        return simulation(settings, site), gateway(settings, site)
    places = zip(worker_names(settings).items(), site.cores.workers, site.gpus, strict=True)
    workers = [worker(settings, site, *named, cores, gpus) for named, cores, gpus in places]
    return (*workers, gateway(settings, site))


def worker_names(settings: UpSettings) -> dict[str, Part]:
    """In the order of their cores."""
    counts = {Part.PREFILL: settings.prefill, Part.DECODE: settings.decode}
    return {f"{part}-{i}": part for part, count in counts.items() for i in range(count)}


def worker(
    settings: UpSettings, site: Site, name: str, part: Part, cores: tuple[int, ...], gpus: GpuShare
) -> ProcessSpec:
    engine = [*engine_words(settings, part), *memory_words(gpus)]
    command = (
        *python(f"{part}_worker"),
        *common_flags(settings, site),
        *("--worker-id", name, "--host", WORKER_HOST, "--port", "0"),
        *("--kv-cache-gib", str(settings.kv_cache_gib)),
        *("--itl-goal-seconds", str(settings.itl_goal_seconds)),
        *transfer_flags(settings),
        *(offload_flags(settings) if part is Part.PREFILL else ()),
        *engine_flag(engine),
    )
    environment = worker_environment(
        site.environment, site.access, cores, settings.kv_cache_gib, gpus.gpus
    )
    return ProcessSpec(name, part, command, environment, cores, (name,))


def num_worker_processes(settings: UpSettings) -> int:
    return 1 if settings.sim else settings.prefill + settings.decode


def simulation(settings: UpSettings, site: Site) -> ProcessSpec:
    """All workers in one process."""
    command = (
        *python("worker.sim"),
        *("--model", str(site.model), "--fleet", settings.fleet, "--host", WORKER_HOST),
        *("--prefill", str(settings.prefill), "--decode", str(settings.decode)),
        *("--speed", str(settings.sim_speed), "--kv-max-loads", str(settings.kv_max_loads)),
        *("--itl-goal-seconds", str(settings.itl_goal_seconds)),
        *(("--max-model-len", str(settings.max_model_len)) if settings.max_model_len else ()),
        *(("--profile", str(settings.sim_profile.absolute())) if settings.sim_profile else ()),
        *shlex.split(settings.sim_args),
    )
    environment = member_environment(site.environment, site.access) | {"OMP_NUM_THREADS": "1"}
    (cores,) = site.cores.workers
    return ProcessSpec("sim", Part.SIM, command, environment, cores, tuple(worker_names(settings)))


def gateway(settings: UpSettings, site: Site) -> ProcessSpec:
    command = (
        *python("gateway"),
        *common_flags(settings, site),
        *("--served-model-name", site.served_model_name),
        *("--host", settings.host, "--port", str(site.port)),
        *("--expect-prefill", str(settings.prefill), "--expect-decode", str(settings.decode)),
        *("--dispatch", settings.dispatch, "--processes", str(settings.processes)),
        *("--routing", absolute(settings.routing), "--disaggregation", settings.disaggregation),
        *("--ttft-goal-seconds", str(settings.ttft_goal_seconds)),
        *("--itl-goal-seconds", str(settings.itl_goal_seconds)),
        *("--control-share", str(settings.control_share)),
        *engine_flag(shlex.split(settings.engine_args)),
    )
    environment = gateway_environment(site.environment, site.access)
    return ProcessSpec("gateway", Part.GATEWAY, command, environment, site.cores.rest)


def valkey(server: ValkeyServer, cores: tuple[int, ...], base: Mapping[str, str]) -> ProcessSpec:
    """Raises fleet.errors.ValkeyMissing."""
    return ProcessSpec("valkey", Part.VALKEY, server.command(), process_environment(base), cores)


def python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", module


def absolute(routing: str) -> str:
    """A policy's name stays; a file's path holds wherever the gateway runs."""
    return str(Path(routing).absolute()) if Path(routing).suffix else routing


def common_flags(settings: UpSettings, site: Site) -> tuple[str, ...]:
    flags = ["--model", str(site.model), "--fleet", settings.fleet, "--dtype", settings.dtype]
    if settings.max_model_len:
        flags += ["--max-model-len", str(settings.max_model_len)]
    return tuple(flags)


def transfer_flags(settings: UpSettings) -> tuple[str, ...]:
    return (
        *("--kv-connector", settings.kv_connector),
        *("--staging-mib", str(settings.staging_mib), "--kv-staging", settings.kv_staging),
        *("--kv-wire", settings.kv_wire),
        *("--kv-stall-seconds", str(settings.kv_stall_seconds)),
        *("--kv-max-loads", str(settings.kv_max_loads)),
    )


def offload_flags(settings: UpSettings) -> tuple[str, ...]:
    if settings.offload_gib is None:
        return ()
    flags = ["--offload-gib", str(settings.offload_gib)]
    if settings.offload_folder is not None:
        flags += ["--offload-folder", str(settings.offload_folder.absolute())]
        flags += ["--offload-folder-gib", str(settings.offload_folder_gib)]
    return tuple(flags)


def engine_words(settings: UpSettings, part: Part) -> list[str]:
    own = settings.prefill_args if part is Part.PREFILL else settings.decode_args
    return [*shlex.split(settings.engine_args), *shlex.split(own)]


def memory_words(gpus: GpuShare) -> Sequence[str]:
    """vLLM takes a whole GPU unless it is told that there is a neighbour."""
    if gpus.memory_share == MEMORY_SHARE:
        return ()
    return "--gpu-memory-utilization", str(gpus.memory_share)


def engine_flag(words: Sequence[str]) -> tuple[str, ...]:
    # One word with "=", because a value that starts with a dash would be taken for a flag.
    return (f"--engine-args={shlex.join(words)}",) if words else ()
