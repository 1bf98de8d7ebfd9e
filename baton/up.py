"""`baton up`: plans, starts everything, serves until a signal says to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

from baton.banner import banner
from baton.console import Console
from baton.errors import AlreadyRunning
from baton.fleet_key import key_of_run
from baton.guarded import Guard, guarded
from baton.identity import ProcessIdentity
from baton.leftovers import remove_leftovers
from baton.listener import reachable_host
from baton.local_fleet import LocalFleet
from baton.plan import Plan, make_plan
from baton.readiness import Readiness
from baton.run_folder import RunFolder
from baton.run_state import RunState
from baton.settings import UpSettings
from fleet.redis_membership import RedisMembership
from fleet.url import redacted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# As a shell says it of what Ctrl-C ended.
INTERRUPTED = 130


def up(
    settings: UpSettings,
    folder: RunFolder,
    environment: Mapping[str, str],
    console: Console,
    on_up: Callable[[], None],
) -> int:
    """The exit code once it has stopped. `on_up` is called when all is ready and said.

    Raises BatonError or FleetError; then, as in every case, nothing is left running.
    """
    # Until there is a loop that handles signals, each of them unwinds like Ctrl-C.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        folder.make()
        take(folder, stack)
        stack.callback(folder.state.unlink, missing_ok=True)
        state = first_state(settings)
        state.save(folder.state)
        key_file = stack.enter_context(key_of_run(settings.fleet_key_file, folder.fleet_key))
        plan = make_plan(settings, folder, key_file, environment, console)
        state = replace(
            state, url=plan.url, model=plan.site.served_model_name, redis=redacted(plan.site.redis)
        )
        stack.callback(folder.socket.unlink, missing_ok=True)
        guard = stack.enter_context(guarded([folder.state, folder.socket, folder.fleet_key]))
        return asyncio.run(serve(settings, plan, folder, state, guard, console, on_up))


def take(folder: RunFolder, stack: ExitStack) -> None:
    """Raises AlreadyRunning."""
    if not stack.enter_context(folder.lock()):
        state = RunState.read(folder.state)
        where = f" at {state.url}" if state and state.url else ""
        raise AlreadyRunning(
            f"a fleet is already running{where} out of {folder.path}: "
            "stop it with `baton down`, or use another --state-dir"
        )
    remove_leftovers(folder.state)


def first_state(settings: UpSettings) -> RunState:
    pid = os.getpid()
    return RunState(
        supervisor=ProcessIdentity.of(pid) or ProcessIdentity(pid, 0),
        url="",
        model=settings.model,
        fleet=settings.fleet,
        redis="",
        started_at=time.time(),
        is_up=False,
        processes=(),
    )


async def serve(
    settings: UpSettings,
    plan: Plan,
    folder: RunFolder,
    state: RunState,
    guard: Guard,
    console: Console,
    on_up: Callable[[], None],
) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()
    watch_signals(stop, hurry, console)
    async with RedisMembership.connect(plan.site.redis, settings.fleet) as membership:
        readiness = Readiness(membership, reachable_host(settings.host), plan.site.port)
        fleet = LocalFleet(
            plan.specs, readiness, folder, guard, console, settings.start_timeout_seconds
        )

        def publish() -> None:
            replace(state, is_up=fleet.is_up, processes=fleet.processes()).save(folder.state)

        def announce() -> None:
            console.line(f"Up in {fleet.age_seconds:.0f} s")
            console.line(banner(plan.url, plan.site.served_model_name))
            console.line(f"Logs: {folder.logs}")
            on_up()

        fleet.on_change, fleet.on_up = publish, announce
        await fleet.run(stop, hurry)
        console.line("Stopped")
        return 0 if fleet.is_up else INTERRUPTED


def watch_signals(stop: asyncio.Event, hurry: asyncio.Event, console: Console) -> None:
    """The first signal stops in order, the second one kills."""

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        else:
            console.line("Stopping; Ctrl-C once more kills")
            stop.set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
