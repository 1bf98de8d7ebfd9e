"""One process of the fleet, with everything that it starts itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path
from typing import Self

from baton import launch
from baton.identity import ProcessIdentity
from baton.lineup import ProcessSpec
from baton.log_file import LogFile
from baton.race import race
from baton.sessions import MAX_PASSES, PASS_SECONDS, kill, members

# How long what a process started may take to see that it is gone, before it is killed.
LEFTOVER_SECONDS = 1.0


class Child:
    """Leads a session of its own, so that the terminal's Ctrl-C does not reach it."""

    def __init__(self, spec: ProcessSpec, process: Process, log: LogFile, log_start: int) -> None:
        self.spec = spec
        self.identity = ProcessIdentity.of(process.pid) or ProcessIdentity(process.pid, 0)
        self._process = process
        self._log = log
        self._log_start = log_start

    @classmethod
    async def start(cls, spec: ProcessSpec, log: LogFile, *, is_first: bool) -> Self:
        """Raises OSError if the program cannot be started."""
        output = log.open(is_first=is_first)
        log_start = log.size()
        try:
            process = await asyncio.create_subprocess_exec(
                *launcher(spec),
                *spec.command,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(spec.environment),
                start_new_session=True,
            )
        finally:
            os.close(output)
        return cls(spec, process, log, log_start)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """The exit code once it has ended; -n if signal n ended it."""
        return await self._process.wait()

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """SIGTERM, and after the grace, or at once in a hurry, SIGKILL. Returns when all is gone.

        Only the process itself is told to end; what it started is its own to end first.
        """
        if self.is_running and not hurry.is_set():
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            await race(self._process.wait(), hurry.wait(), within_seconds=grace_seconds)
        if not self.is_running and not hurry.is_set():
            await race(self._gone(), hurry.wait(), within_seconds=LEFTOVER_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the whole session. Returns when it is empty."""
        for _ in range(MAX_PASSES):
            if not kill(self.pid):
                break
            await asyncio.sleep(PASS_SECONDS)
        await self._process.wait()

    async def _gone(self) -> None:
        while members(self.pid):  # noqa: ASYNC110 - nothing tells of grandchildren
            await asyncio.sleep(PASS_SECONDS)

    def said_error(self) -> str | None:
        """The text after the last "error: " that this start wrote."""
        return self._log.said_error(self._log_start)

    def last_words(self) -> str | None:
        """The last line of this start that speaks of an error."""
        return self.said_error() or self._log.last_words(self._log_start)


def launcher(spec: ProcessSpec) -> tuple[str, ...]:
    """Runs before the program, in the process that becomes it."""
    cores = ",".join(map(str, spec.cores))
    script = str(Path(launch.__file__))
    return sys.executable, "-I", "-S", script, str(os.getpid()), cores
