"""The client's processes: one in this process, or several that start together."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic

import uvloop

from loadtest.replay.errors import FleetFailed
from loadtest.replay.open_loop import OpenLoop, Progress
from loadtest.replay.records import Records
from loadtest.replay.workload import Workload

# From the word to start until the first request is due.
HEAD_START_SECONDS = 0.1
END_SECONDS = 5.0

Show = Callable[[Progress], None]


def replay(workload: Workload, num_clients: int, show: Show) -> Records:
    """Blocks until all requests have ended. Raises ReplayError."""
    allow_many_connections()
    if num_clients == 1:
        return uvloop.run(run_loop(workload, show))
    parts = workload.split(num_clients)
    with ExitStack() as stack:
        pipes = [stack.enter_context(closing(start(part, stack))) for part in parts]
        for pipe in pipes:
            receive(pipe)
        began_at = monotonic() + HEAD_START_SECONDS
        for pipe in pipes:
            pipe.send(began_at)
        return collect(pipes, show)


async def run_loop(workload: Workload, show: Show, began_at: float | None = None) -> Records:
    return await OpenLoop(workload, began_at or monotonic() + HEAD_START_SECONDS, show).run()


def start(workload: Workload, stack: ExitStack) -> Connection:
    """Its process ends with the stack."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(workload, theirs), daemon=True)
    process.start()
    stack.callback(end, process)
    theirs.close()
    return ours


def end(process: BaseProcess) -> None:
    if process.is_alive():
        process.terminate()
    process.join(END_SECONDS)


def serve(workload: Workload, pipe: Connection) -> None:
    """Runs in a client process: ready, then progress, then records."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_many_connections()
    pipe.send("ready")
    began_at: float = pipe.recv()
    pipe.send(uvloop.run(run_loop(workload, pipe.send, began_at)))


def collect(pipes: Sequence[Connection], show: Show) -> Records:
    latest: dict[Connection, Progress] = {}
    found: dict[Connection, Records] = {}
    while len(found) < len(pipes):
        ready = wait([pipe for pipe in pipes if pipe not in found])
        for pipe in [each for each in pipes if each in ready]:
            told = receive(pipe)
            if isinstance(told, Records):
                found[pipe] = told
            elif isinstance(told, Progress):
                latest[pipe] = told
                show(total(list(latest.values())))
    return Records.merged(list(found.values()))


def total(each: Sequence[Progress]) -> Progress:
    summed = Progress()
    for progress in each:
        summed.add(progress)
    return summed


def receive(pipe: Connection) -> object:
    """Raises FleetFailed."""
    try:
        told: object = pipe.recv()
    except (EOFError, OSError) as error:
        raise FleetFailed("a client process has ended by itself") from error
    return told


def allow_many_connections() -> None:
    """As many descriptors as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
