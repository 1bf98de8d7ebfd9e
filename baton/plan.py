"""What `baton up` will start, decided and checked before anything is started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from baton.console import Console
from baton.cores import CoreAssignment, assign, available_cores, describe
from baton.errors import BadSettings, FleetTaken, ServerUnreachable
from baton.gpus import assign_gpus, available_gpus
from baton.lineup import (
    ProcessSpec,
    Site,
    line_up,
    num_worker_processes,
    valkey,
    worker_names,
)
from baton.listener import base_url, free_port
from baton.memory import GIB, MemoryNeed, available_bytes, weight_bytes
from baton.model import ensure_model, models_dir
from baton.run_folder import RunFolder
from baton.settings import UpSettings
from fleet.errors import FleetUnavailable
from fleet.member import Member
from fleet.redis_membership import RedisMembership
from fleet.registration import LEASE_SECONDS
from fleet.valkey import ValkeyServer

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    site: Site
    specs: tuple[ProcessSpec, ...]
    url: str


def make_plan(
    settings: UpSettings,
    folder: RunFolder,
    fleet_key_file: Path,
    environment: Mapping[str, str],
    console: Console,
) -> Plan:
    """Raises BatonError or FleetError if it cannot work. The cheapest checks come first."""
    check_offload(settings)
    check_sim(settings)
    check_connector(settings)
    gpus = available_gpus(environment)
    check_staging(settings, gpus)
    port = free_port(settings.host, settings.port)
    cores = assign(available_cores(), num_worker_processes(settings))
    server = embedded_valkey(settings, folder, cores, environment)
    model = ensure_model(settings.model, models_dir(environment), console.line)
    if not gpus or settings.sim:
        check_memory(settings, model)
    site = Site(
        model=model,
        served_model_name=settings.served_model_name or served_name(settings.model),
        redis=settings.redis or ValkeyServer(folder.socket).url,
        fleet_key_file=fleet_key_file,
        port=port,
        cores=cores,
        gpus=assign_gpus(gpus, len(cores.workers)),
        environment=environment,
    )
    announce(settings, site, console)
    return Plan(site, (*server, *line_up(settings, site)), base_url(settings.host, port))


def embedded_valkey(
    settings: UpSettings, folder: RunFolder, cores: CoreAssignment, environment: Mapping[str, str]
) -> tuple[ProcessSpec, ...]:
    """None where a server was named. Raises ServerUnreachable or FleetTaken."""
    if settings.redis:
        asyncio.run(check_server(settings.redis, settings))
        return ()
    return (valkey(ValkeyServer(folder.socket), cores.rest, environment),)


async def check_server(url: str, settings: UpSettings) -> None:
    """It answers, and no fleet of that name has workers whose names ours will take.

    Waits for the leases of workers that were killed just before.
    """
    ours = set(worker_names(settings))
    deadline = time.monotonic() + LEASE_SECONDS + 1
    async with RedisMembership.connect(url, settings.fleet) as membership:
        with unreachable():
            await membership.check()
        while taken := [m for m in await listed(membership) if m.worker_id in ours]:
            if time.monotonic() > deadline:
                raise FleetTaken(
                    f"{taken[0].worker_id} is already in fleet {settings.fleet!r} of that --redis "
                    f"(at {taken[0].address}): choose another name with --fleet"
                )
            await asyncio.sleep(POLL_SECONDS)


async def listed(membership: RedisMembership) -> tuple[Member, ...]:
    with unreachable():
        return await membership.members()


@contextmanager
def unreachable() -> Iterator[None]:
    """Raises ServerUnreachable."""
    try:
        yield
    except FleetUnavailable as outage:
        raise ServerUnreachable(f"--redis: {outage}") from outage


def check_offload(settings: UpSettings) -> None:
    """Raises BadSettings."""
    if settings.offload_folder is not None and settings.offload_gib is None:
        raise BadSettings("--offload-folder: KV gets there through --offload-gib")


def check_sim(settings: UpSettings) -> None:
    """Raises BadSettings for what is not simulated, or makes sense in a simulation alone."""
    of_engines = {
        "--offload-gib": settings.offload_gib is not None,
        "--kv-connector nixl": settings.kv_connector == "nixl",
        "--prefill-args": bool(settings.prefill_args),
        "--decode-args": bool(settings.decode_args),
    }
    of_sim = {
        "--sim-speed": settings.sim_speed != 1,
        "--sim-profile": settings.sim_profile is not None,
        "--sim-args": bool(settings.sim_args),
    }
    wrong = of_engines if settings.sim else of_sim
    if given := [flag for flag, is_given in wrong.items() if is_given]:
        raise BadSettings(f"{given[0]}: {'not with' if settings.sim else 'only with'} --sim")


def check_connector(settings: UpSettings) -> None:
    """Raises BadSettings."""
    if settings.kv_connector != "nixl":
        return
    for flag, value, usual in (
        ("--kv-wire", settings.kv_wire, "raw"),
        ("--kv-staging", settings.kv_staging, "host"),
    ):
        if value != usual:
            raise BadSettings(f"{flag}: not with --kv-connector nixl, which moves KV as it is")
    if find_spec("nixl") is None:
        raise BadSettings("--kv-connector nixl: NIXL is not installed: `make setup NIXL=1`")


def check_staging(settings: UpSettings, gpus: Sequence[str]) -> None:
    """Raises BadSettings."""
    if settings.kv_staging == "device" and not gpus:
        raise BadSettings("--kv-staging device: there is no GPU here: use --kv-staging host")


def check_memory(settings: UpSettings, model: Path) -> None:
    """Raises NotEnoughMemory."""
    need = MemoryNeed(
        num_workers=num_worker_processes(settings),
        weight_bytes=0 if settings.sim else weight_bytes(model, settings.dtype),
        kv_cache_bytes=0 if settings.sim else settings.kv_cache_gib * GIB,
        offload_bytes=round(settings.prefill * (settings.offload_gib or 0) * GIB),
        num_gateway_processes=settings.processes,
    )
    need.check(available_bytes())


def served_name(model: str) -> str:
    """A folder's own name; a hub id and the default model as they are."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def announce(settings: UpSettings, site: Site, console: Console) -> None:
    console.line(
        f"Starting {settings.prefill} prefill + {settings.decode} decode workers"
        f"{' (simulated)' if settings.sim else ''} and the gateway "
        f"for {site.served_model_name}"
    )
    if site.cores.is_shared:
        console.line(
            f"  {len(site.cores.workers)} workers share {describe(site.cores.rest)}: "
            "they will slow each other down"
        )
