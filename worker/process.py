"""The worker process: builds everything, serves, and takes it all down again."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import uvloop

from fleet.contact import Contact
from fleet.errors import FleetError, Superseded
from fleet.member import Member, new_incarnation
from fleet.membership import Membership
from fleet.redis_block_log import RedisBlockLog
from fleet.redis_membership import RedisMembership
from fleet.registration import Registration
from proto.fleet_key import BadFleetKey, FleetKey
from worker.admission import Admission
from worker.block_teller import BlockTeller
from worker.description import describe, member
from worker.environment import LOCAL_ENVIRONMENT, engine_environment, nixl_environment
from worker.errors import BadSettings, EngineLost, WorkerError
from worker.groups import gravest
from worker.hub import Hub
from worker.identity import Identity
from worker.interface import Engine
from worker.ledger import Ledger
from worker.leg import Leg, Role
from worker.model_folder import ModelFolder
from worker.peers import PeerBook
from worker.server import check_port, open_server
from worker.servicer import Servicer
from worker.settings import WorkerSettings, load
from worker.shutdown import exit_on_signal, stop_on_signal
from worker.ticket_check import TicketCheck
from worker.ticket_ledger import TicketLedger

LEAVE_SECONDS = 1.0
MIB = 2**20
KV_ROLES = {
    frozenset({Role.PREFILL}): "kv_producer",
    frozenset({Role.DECODE}): "kv_consumer",
    frozenset({Role.PREFILL, Role.DECODE}): "kv_both",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """One kind of worker: its name on the command line, its settings, the legs it takes."""

    name: str
    settings: type[WorkerSettings]
    legs: tuple[Leg, ...]

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(leg.role for leg in self.legs)

    @property
    def kv_role(self) -> str:
        """vLLM's word for it."""
        return KV_ROLES[frozenset(self.roles)]


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """The exit code of a worker."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code_of(lambda: run(program, load(program.settings, program.name, words)))


def exit_code_of(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """0 after SIGTERM, 1 after an error of ours, which is the last line on stderr."""
    exit_on_signal()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())
    except (WorkerError, FleetError) as error:
        return fail(str(error))
    except Exception as error:
        logger.exception("a defect of the worker")
        return fail(f"the worker failed: {type(error).__name__}: {error}")
    return 0


def fail(reason: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {' '.join(reason.split())}\n")
    return 1


async def run(program: Program, settings: WorkerSettings) -> None:
    """Returns after SIGTERM. Raises WorkerError or FleetError."""
    host = settings.reached_by
    key = read_key(settings.fleet_key_file)
    model = ModelFolder.open(Path(settings.model))
    check_port(settings.host, settings.port)
    async with (
        open_membership(settings) as membership,
        open_engine(program, settings, model, key) as engine,
    ):
        us = Identity(
            settings.worker_id,
            new_incarnation(),
            model.fingerprint,
            engine.facts.kv_layout.fingerprint,
        )
        description = describe(us, program.roles, model, engine.facts)
        hub = make_hub(engine, program.legs, key, us, Ledger())
        servicer = Servicer(description, hub, key)
        async with open_server(servicer, settings.host, settings.port) as port:
            entry = member(description, program.roles, f"{host}:{port}", os.getpid(), time.time())
            async with RedisBlockLog.connect(settings.redis, settings.fleet) as log:
                contact = Contact(f"{us.worker_id} goes on and keeps trying")
                teller = BlockTeller(engine, log, f"{us.worker_id}/{us.incarnation}", contact)
                await serve(hub, membership, entry, [teller], contact)


def make_hub(
    engine: Engine, legs: Iterable[Leg], key: FleetKey, us: Identity, ledger: Ledger
) -> Hub:
    check = TicketCheck(key, us, PeerBook(), TicketLedger())
    # vLLM keeps one block for itself.
    kv_tokens = (engine.facts.capacity.num_kv_blocks - 1) * engine.facts.kv_layout.block_size
    return Hub(engine, Admission(legs, ledger, check, kv_tokens), ledger, check)


def read_key(path: Path) -> FleetKey:
    """Raises BadSettings."""
    try:
        return FleetKey.read(path)
    except BadFleetKey as error:
        raise BadSettings(f"--fleet-key-file: {error}") from error


class Part(Protocol):
    """Of a worker: it runs until it is cancelled."""

    async def run(self) -> None: ...


async def serve(
    hub: Hub,
    membership: Membership,
    us: Member,
    beside: Iterable[Part] = (),
    contact: Contact | None = None,
) -> None:
    """Returns after SIGTERM; see `serve_until`."""
    with stop_on_signal() as stop:
        await serve_until(stop, hub, membership, us, beside, contact)


async def serve_until(
    stop: asyncio.Event,
    hub: Hub,
    membership: Membership,
    us: Member,
    beside: Iterable[Part] = (),
    contact: Contact | None = None,
) -> None:
    """Returns when nothing is open any more. `beside`: what else runs meanwhile.

    Raises EngineLost, FleetUnavailable if the worker could not join, and Superseded.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in (hub, *beside)]
            stay = Registration(membership, us, contact=contact, load=hub.last_load)
            await stay_in_fleet(stop, stay)
            hub.stop()
            for each in running:
                each.cancel()
    except ExceptionGroup as group:
        raise gravest(group, FleetError, EngineLost) from None


async def stay_in_fleet(stop: asyncio.Event, registration: Registration) -> None:
    """Until told to stop. Raises Superseded if another incarnation takes the place."""
    us = registration.member
    async with bounded_stay(registration):
        logger.info("%s is ready at %s", us.worker_id, us.address)
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(each.wait()) for each in (stop, registration.lost)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            is_superseded = registration.lost.is_set()
            for end in ends:
                end.cancel()
    if is_superseded:
        raise Superseded(us.worker_id)


@asynccontextmanager
async def open_membership(settings: WorkerSettings) -> AsyncIterator[RedisMembership]:
    """Raises FleetError if the fleet's state cannot be reached, before anything is loaded."""
    async with RedisMembership.connect(settings.redis, settings.fleet) as membership:
        await membership.check()
        yield membership


@asynccontextmanager
async def bounded_stay(registration: Registration) -> AsyncIterator[None]:
    """A stay in the fleet that a silent server cannot prolong by more than LEAVE_SECONDS."""
    await registration.__aenter__()
    try:
        yield
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await registration.__aexit__(None, None, None)


@asynccontextmanager
async def open_engine(
    program: Program, settings: WorkerSettings, model: ModelFolder, key: FleetKey
) -> AsyncIterator[Engine]:
    """Raises StartError."""
    num_cores = len(os.sched_getaffinity(0))
    os.environ.update(engine_environment(os.environ, num_cores, settings.kv_cache_gib))
    if settings.is_local:
        os.environ.update(LOCAL_ENVIRONMENT)
    if settings.kv_connector == "nixl":
        port = check_port(settings.reached_by, settings.nixl_port)
        os.environ.update(nixl_environment(settings.reached_by, port))
    # Only now: vLLM reads its environment when it is imported.
    import worker.engine as vllm_engine
    from worker.engine_plan import EnginePlan

    plan = EnginePlan(
        model=model,
        kv_connector=settings.kv_connector,
        kv_role=program.kv_role,
        staging_bytes=settings.staging_mib * MIB,
        kv_staging=settings.kv_staging,
        fleet_key_file=settings.fleet_key_file,
        kv_wire=settings.kv_wire,
        kv_stall_seconds=settings.kv_stall_seconds,
        kv_max_loads=settings.kv_max_loads,
        itl_goal_seconds=settings.itl_goal_seconds,
        kv_fault=settings.kv_fault,
        offload=settings.offload,
        # A worker that listens on this machine alone does so for KV as well.
        ucx={"NET_DEVICES": "lo"} if settings.is_local else {},
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        words=settings.engine_args,
    )
    async with vllm_engine.open_engine(plan, key) as engine:
        yield engine
