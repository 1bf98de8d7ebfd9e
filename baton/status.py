"""`baton status`: the processes of a run and the load of its workers."""

from __future__ import annotations

import time

from baton.console import Console
from baton.cores import describe
from baton.fleet_view import WorkerView, view_fleet
from baton.run_folder import RunFolder
from baton.run_state import ProcessState, RunState
from baton.supervisor import Phase
from baton.table import render

HEADING = (
    *("process", "role", "pid", "cores", "state", "restarts"),
    *("running", "waiting", "KV blocks", "sent", "received"),
)
NOT_RUNNING = 3
UNITS = ("B", "KB", "MB", "GB", "TB")


def status(folder: RunFolder, console: Console) -> int:
    """0 if everything is ready, 1 if not, 3 if nothing runs (as service managers say it)."""
    state = RunState.read(folder.state)
    if not state or not state.supervisor.is_alive():
        console.line("Nothing is running")
        return NOT_RUNNING
    views = view_fleet(state.url) if state.is_up else None
    console.line(headline(state))
    loads = {worker.worker_id: worker for worker in views.workers} if views else {}
    rows = [row(process, loads.get(process.name)) for process in state.processes]
    names = {process.name for process in state.processes}
    rows += [guest_row(view) for name, view in loads.items() if name not in names]
    for line in render(HEADING, rows):
        console.line(line)
    for worker in loads.values():
        if worker.reason:
            console.line(f"{worker.worker_id} is {worker.state}: {worker.reason}")
    if state.is_up and views is None:
        console.line("The gateway does not answer, so the load is unknown")
    is_ready = all(process.phase is Phase.READY for process in state.processes)
    return 0 if state.is_up and is_ready else 1


def headline(state: RunState) -> str:
    age = duration(time.time() - state.started_at)
    what = f"Serving {state.model} at {state.url}/v1" if state.is_up else f"Starting {state.model}"
    return f"{what} for {age}, supervisor {state.supervisor.pid}"


def row(process: ProcessState, view: WorkerView | None) -> tuple[str, ...]:
    return (
        process.name,
        process.role,
        str(process.identity.pid) if process.identity else "-",
        describe(process.cores).partition(" ")[2],
        process.phase.value,
        str(process.restarts),
        *load_cells(view),
    )


def guest_row(view: WorkerView) -> tuple[str, ...]:
    """Of a worker that has no process to itself, or one of another run."""
    return (view.worker_id, "", "", "", view.state, "", *load_cells(view))


def load_cells(view: WorkerView | None) -> tuple[str, ...]:
    if not view:
        return ("",) * 5
    load, moved = view.load, view.load.transfers
    return (
        str(load.num_running),
        str(load.num_waiting),
        f"{load.num_kv_blocks_used}/{load.num_kv_blocks}",
        size(moved.sent_bytes),
        size(moved.received_bytes),
    )


def size(num_bytes: float) -> str:
    """Powers of 1000: "0 B", "45.2 MB"."""
    for unit in UNITS:
        if num_bytes < 1000 or unit == UNITS[-1]:
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """The two largest units: "45 s", "3 min 20 s", "2 h 5 min"."""
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
