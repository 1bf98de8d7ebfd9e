"""`baton down`: stops what runs out of a folder, and waits until it is gone."""

from __future__ import annotations

import os
import signal
import time

from baton.console import Console
from baton.errors import StopFailed
from baton.leftovers import remove_leftovers
from baton.run_folder import RunFolder
from baton.run_state import RunState

# An orderly stop takes up to ten seconds; the guard needs a moment after a killed one.
STOP_SECONDS = 20.0
PASS_SECONDS = 0.05


def down(folder: RunFolder, console: Console) -> int:
    """0 also if nothing ran. Raises StopFailed."""
    state = RunState.read(folder.state)
    if not state:
        console.line("Nothing is running")
        return 0
    # The identity, not the pid alone: a recycled pid is another process.
    if state.supervisor.is_alive():
        os.kill(state.supervisor.pid, signal.SIGTERM)
        wait_for_end(state)
        console.line(f"Stopped {state.url}".rstrip())
    for name in remove_leftovers(folder.state):
        console.line(f"Ended {name}, which a killed run had left behind")
    return 0


def wait_for_end(state: RunState) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while state.supervisor.is_alive():
        if time.monotonic() > deadline:
            raise StopFailed(
                f"the supervisor (pid {state.supervisor.pid}) has not stopped after "
                f"{STOP_SECONDS:.0f} s; `kill -9 {state.supervisor.pid}` ends it and all of its own"
            )
        time.sleep(PASS_SECONDS)
