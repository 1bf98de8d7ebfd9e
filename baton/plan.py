"""What `baton up` will start, decided and checked before anything is started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baton.console import Console
from baton.cores import CoreAssignment, assign, available_cores, describe
from baton.errors import ServerUnreachable
from baton.gpus import assign_gpus, available_gpus
from baton.lineup import ProcessSpec, Site, line_up, valkey
from baton.listener import base_url, free_port
from baton.memory import GIB, MemoryNeed, available_bytes, weight_bytes
from baton.model import ensure_model, models_dir
from baton.run_folder import RunFolder
from baton.settings import UpSettings
from fleet.errors import FleetUnavailable
from fleet.redis_membership import RedisMembership
from fleet.valkey import ValkeyServer


@dataclass(frozen=True, slots=True)
class Plan:
    site: Site
    specs: tuple[ProcessSpec, ...]
    url: str


def make_plan(
    settings: UpSettings, folder: RunFolder, environment: Mapping[str, str], console: Console
) -> Plan:
    """Raises BatonError or FleetError if it cannot work. The cheapest checks come first."""
    port = free_port(settings.host, settings.port)
    cores = assign(available_cores(), settings.prefill + settings.decode)
    server = embedded_valkey(settings, folder, cores, environment)
    model = ensure_model(settings.model, models_dir(environment), console.line)
    gpus = available_gpus(environment)
    if not gpus:
        check_memory(settings, model)
    site = Site(
        model=model,
        served_model_name=settings.served_model_name or served_name(settings.model),
        redis=settings.redis or ValkeyServer(folder.socket).url,
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
    """None of it where a server was named, which must answer. Raises ServerUnreachable."""
    if settings.redis:
        asyncio.run(check_server(settings.redis, settings.fleet))
        return ()
    return (valkey(ValkeyServer(folder.socket), cores.rest, environment),)


async def check_server(url: str, fleet: str) -> None:
    async with RedisMembership.connect(url, fleet) as membership:
        try:
            await membership.members()
        except FleetUnavailable as outage:
            raise ServerUnreachable(f"--redis: {outage}") from outage


def check_memory(settings: UpSettings, model: Path) -> None:
    """Raises NotEnoughMemory."""
    need = MemoryNeed(
        num_workers=settings.prefill + settings.decode,
        weight_bytes=weight_bytes(model, settings.dtype),
        kv_cache_bytes=settings.kv_cache_gib * GIB,
    )
    need.check(available_bytes())


def served_name(model: str) -> str:
    """A folder's own name; a hub id and the default model as they are."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def announce(settings: UpSettings, site: Site, console: Console) -> None:
    console.line(
        f"Starting {settings.prefill} prefill + {settings.decode} decode workers and the gateway "
        f"for {site.served_model_name}"
    )
    if site.cores.is_shared:
        console.line(
            f"  {len(site.cores.workers)} workers share {describe(site.cores.rest)}: "
            "they will slow each other down"
        )
