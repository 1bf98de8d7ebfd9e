"""What a run left behind whose supervisor, and whose guard as well, were killed."""

from __future__ import annotations

from pathlib import Path

from baton.run_state import RunState
from baton.sessions import end


def remove_leftovers(state_file: Path) -> tuple[str, ...]:
    """Ends the processes that the state names and that are still the same; their names.

    The caller knows that the run's supervisor is gone.
    """
    state = RunState.read(state_file)
    alive = [p for p in state.processes if p.identity and p.identity.is_alive()] if state else []
    for process in alive:
        assert process.identity
        end(process.identity.pid)
    state_file.unlink(missing_ok=True)
    return tuple(process.name for process in alive)
