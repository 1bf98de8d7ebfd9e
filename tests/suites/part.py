"""One process of a fleet: killed, halted, resumed and started again at will."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from baton.sessions import end, members
from tests.suites.network import Namespace
from tests.system.root import LAUNCH, ROOT

GRACE_SECONDS = 8.0
TAIL_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start it. `place`: the namespace that it lives in; None is where we are."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    cores: tuple[int, ...]
    log: Path
    place: Namespace | None = None

    def words(self) -> tuple[str, ...]:
        """Bound to its cores and to the life of this process."""
        cores = ",".join(map(str, self.cores))
        words = (sys.executable, str(LAUNCH), str(os.getpid()), cores, *self.command)
        return self.place.command(words) if self.place else words


class Part:
    """Leads a session. Start it in the main thread: a thread's end would be this one's."""

    def __init__(self, recipe: Recipe) -> None:
        self._log = recipe.log
        with recipe.log.open("ab") as log:
            self._process = subprocess.Popen(
                recipe.words(),
                cwd=ROOT,
                env=dict(recipe.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def bury(self) -> None:
        """Kills whatever is left of it."""
        end(self.pid)
        self._process.wait()

    def stop(self) -> None:
        """In order, if that goes at all soon."""
        signal_session(self.pid, signal.SIGCONT)
        if self.is_running:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        self.bury()

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-TAIL_CHARACTERS:]


def signal_session(pid: int, number: signal.Signals) -> None:
    """Every process of the session that `pid` leads."""
    for member in members(pid):
        with suppress(ProcessLookupError):
            os.kill(member, number)
