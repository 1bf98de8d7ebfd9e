"""The processes of one `baton up`: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from baton.child import Child
from baton.console import Console
from baton.cores import describe
from baton.custody import Custody
from baton.endings import cause_of_failure, ended
from baton.errors import StartFailed
from baton.guarded import Guard
from baton.lineup import GRACE_SECONDS, STOP_TIERS, Part, ProcessSpec
from baton.log_file import LogFile
from baton.race import race
from baton.readiness import Readiness
from baton.run_folder import RunFolder
from baton.run_state import ProcessState
from baton.supervisor import GiveUp, Supervisor

READY_POLL_SECONDS = 0.2
PROGRESS_SECONDS = 1.0
UPKEEP_SECONDS = 30.0
START_WORDS = {
    Part.PREFILL: "loading the model",
    Part.DECODE: "loading the model",
    Part.SIM: "simulating all workers",
}


class LocalFleet:
    """`specs` in the order to start; the others wait for Valkey if it is among them.

    `on_change` is called after each change of `processes()`, `on_up` once, when all are ready.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        readiness: Readiness,
        folder: RunFolder,
        guard: Guard,
        console: Console,
        start_timeout_seconds: float,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._readiness = readiness
        self._folder = folder
        self._custody = Custody(guard)
        self._console = console
        self._start_timeout_seconds = start_timeout_seconds
        self._supervisor = Supervisor((spec.name, STOP_TIERS[spec.part]) for spec in specs)
        self._children: dict[str, Child] = {}
        self._server_ready = asyncio.Event()
        self._began = time.monotonic()
        self.on_change: Callable[[], None] = lambda: None
        self.on_up: Callable[[], None] = lambda: None

    @property
    def is_up(self) -> bool:
        return self._supervisor.is_up

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._began

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Serves until `stop` is set; `hurry` then kills what does not end by itself at once.

        Raises StartFailed. Nothing is left running however it ends.
        """
        try:
            await self._serve(stop)
        except* StartFailed as failures:
            raise failures.exceptions[0] from None
        finally:
            await self._stop_all(hurry)

    def processes(self) -> tuple[ProcessState, ...]:
        return tuple(self._state(spec) for spec in self._specs.values())

    async def _serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            if all(spec.part is not Part.VALKEY for spec in self._specs.values()):
                self._server_ready.set()
            working = [tasks.create_task(self._tend(spec)) for spec in self._specs.values()]
            working.append(tasks.create_task(self._keep()))
            await stop.wait()
            for task in working:
                task.cancel()

    async def _tend(self, spec: ProcessSpec) -> None:
        if spec.part is not Part.VALKEY:
            await self._server_ready.wait()
        while True:
            child = await self._start(spec)
            await self._await_ready(child)
            exit_code = await child.wait()
            await asyncio.sleep(await self._after_exit(child, exit_code))

    async def _start(self, spec: ProcessSpec) -> Child:
        is_first = self._supervisor.restarts(spec.name) == 0
        try:
            child = await Child.start(spec, self._log(spec.name), is_first=is_first)
        except OSError as error:
            raise StartFailed(spec.name, f"{spec.name} cannot be started: {error}") from error
        self._children[spec.name] = child
        self._custody.take(child.pid)
        self._supervisor.started(spec.name, time.monotonic())
        if spec.workers:
            self._tell(spec.name, f"{START_WORDS[spec.part]} on {describe(spec.cores)}")
        self.on_change()
        return child

    async def _await_ready(self, child: Child) -> None:
        """Returns when the child is ready or has ended."""
        polling = self._poll_until_ready(child)
        if await race(polling, child.wait(), within_seconds=self._start_timeout_seconds):
            return
        if not self.is_up:
            raise StartFailed(
                child.spec.name,
                f"{child.spec.name} was not ready after {self._start_timeout_seconds:.0f} s; "
                f"its log: {self._log(child.spec.name).path}",
            )
        await child.kill()

    async def _poll_until_ready(self, child: Child) -> None:
        while not await self._readiness.is_ready(child):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(READY_POLL_SECONDS)
        self._on_ready(child)

    def _on_ready(self, child: Child) -> None:
        name, was_up = child.spec.name, self.is_up
        took = self._supervisor.ready(name, time.monotonic())
        if child.spec.part is Part.VALKEY:
            self._server_ready.set()
        self._tell(name, f"ready in {took:.1f} s")
        self._custody.note(child.pid)
        self.on_change()
        if self.is_up and not was_up:
            self.on_up()

    async def _after_exit(self, child: Child, exit_code: int) -> float:
        """Buries the child; the pause before the next start, in seconds. Raises StartFailed."""
        await self._bury(child)
        name, log = child.spec.name, self._log(child.spec.name).path
        verdict = self._supervisor.exited(name, time.monotonic())
        self.on_change()
        if isinstance(verdict, GiveUp):
            self._tell(name, f"{ended(exit_code)}; its log: {log}")
            raise StartFailed(name, cause_of_failure(child, exit_code))
        words = child.last_words()
        self._tell(
            name,
            f"{ended(exit_code)}; next start in {verdict.after_seconds:.0f} s; log: {log}"
            + (f"; last error: {words}" if words else ""),
        )
        return verdict.after_seconds

    async def _bury(self, child: Child) -> None:
        await child.kill()
        self._custody.release(child.pid)
        # Forgotten, because its pid may soon be another's.
        del self._children[child.spec.name]

    async def _stop_all(self, hurry: asyncio.Event) -> None:
        for names in self._supervisor.stop():
            children = [self._children[name] for name in names if name in self._children]
            self._console.transient(f"  stopping {', '.join(names)}")
            async with asyncio.TaskGroup() as tasks:
                for child in children:
                    tasks.create_task(self._stop(child, hurry))

    async def _stop(self, child: Child, hurry: asyncio.Event) -> None:
        self._custody.note(child.pid)
        await child.stop(GRACE_SECONDS[child.spec.part], hurry)
        self._custody.release(child.pid)
        self._supervisor.stopped(child.spec.name, time.monotonic())
        self.on_change()

    async def _keep(self) -> None:
        """Shows that something happens until all are ready; then keeps logs and notes in order."""
        while not self.is_up:
            waiting = ", ".join(self._supervisor.waiting_for())
            self._console.transient(f"  waiting for {waiting}: {self.age_seconds:.0f} s")
            await asyncio.sleep(PROGRESS_SECONDS)
        while True:
            for name, child in self._children.items():
                self._log(name).bound()
                self._custody.note(child.pid)
            await asyncio.sleep(UPKEEP_SECONDS)

    def _tell(self, name: str, what: str) -> None:
        self._console.line(f"  {name:<11} {what}")

    def _log(self, name: str) -> LogFile:
        return LogFile(self._folder.log(name))

    def _state(self, spec: ProcessSpec) -> ProcessState:
        phase = self._supervisor.phase(spec.name)
        child = self._children.get(spec.name)
        return ProcessState(
            name=spec.name,
            role=spec.part.value,
            phase=phase,
            restarts=self._supervisor.restarts(spec.name),
            cores=spec.cores,
            identity=child.identity if child and child.is_running else None,
            log=str(self._log(spec.name).path),
        )
