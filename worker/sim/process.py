"""The process of simulated workers: builds everything, serves, and takes it all down again."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.redis_block_log import RedisBlockLog
from fleet.redis_membership import RedisMembership
from proto.fleet_key import FleetKey
from worker.block_teller import BlockTeller
from worker.description import describe, member
from worker.environment import engine_environment
from worker.errors import EngineLost, WorkerError
from worker.groups import gravest
from worker.identity import Identity
from worker.ledger import Ledger
from worker.model_folder import ModelFolder
from worker.process import exit_code_of, make_hub, read_key, serve_until
from worker.server import open_server
from worker.servicer import Servicer
from worker.settings import parse
from worker.shutdown import stop_on_signal
from worker.sim.crew import SimWorker, make_crew
from worker.sim.model import SimModel
from worker.sim.pace import Pace
from worker.sim.settings import SimSettings
from worker.sim.timeline import Timeline

PROGRAM = "python -m worker.sim"
# They tell of each pair of workers.
TALKATIVE = ("worker.peer_relay", "worker.session")


@dataclass(frozen=True, slots=True)
class Site:
    """What all workers of the process have in common."""

    settings: SimSettings
    folder: ModelFolder
    key: FleetKey


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code_of(lambda: run(parse(SimSettings, PROGRAM, words)))


async def run(settings: SimSettings) -> None:
    """Returns after SIGTERM. Raises WorkerError or FleetError."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    key = read_key(settings.fleet_key_file)
    folder = ModelFolder.open(Path(settings.model))
    model = SimModel.of(folder, settings.block_size, settings.max_model_len)
    async with RedisMembership.connect(settings.redis, settings.fleet) as membership:
        await membership.check()
    timeline = Timeline(time.monotonic)
    crew = open_crew(settings, model, timeline)
    site = Site(settings, folder, key)
    try:
        with stop_on_signal() as stop:
            async with asyncio.TaskGroup() as tasks:
                pacing = tasks.create_task(Pace(timeline).run())
                serving = [tasks.create_task(serve(each, site, stop)) for each in crew]
                await asyncio.wait(serving)
                pacing.cancel()
    except ExceptionGroup as group:
        raise gravest(group, FleetError, EngineLost, WorkerError) from None


def open_crew(settings: SimSettings, model: SimModel, timeline: Timeline) -> list[SimWorker]:
    """Raises BadSettings."""
    os.environ.update(engine_environment(os.environ, 1, None))
    # Only now: vLLM reads its environment when it is imported.
    from worker.engine_codec import VLLM_VERSION, SimCodec

    return make_crew(settings, model, SimCodec(settings.block_size), VLLM_VERSION, timeline)


async def serve(worker: SimWorker, site: Site, stop: asyncio.Event) -> None:
    """One worker, until told to stop: with connections of its own, as a process would have.

    Raises FleetError and PortTaken.
    """
    settings, facts = site.settings, worker.engine.facts
    layout = facts.kv_layout.fingerprint
    us = Identity(worker.worker_id, worker.incarnation, site.folder.fingerprint, layout)
    description = describe(us, worker.roles, site.folder, facts)
    hub = make_hub(worker.engine, worker.legs, site.key, us, Ledger())
    servicer = Servicer(description, hub, site.key)
    async with (
        RedisMembership.connect(settings.redis, settings.fleet) as membership,
        RedisBlockLog.connect(settings.redis, settings.fleet) as log,
        open_server(servicer, settings.host, 0) as port,
    ):
        address = f"{settings.host}:{port}"
        entry = member(description, worker.roles, address, os.getpid(), time.time())
        await serve_until(stop, hub, membership, entry, [BlockTeller(worker.engine, log, us.key)])
