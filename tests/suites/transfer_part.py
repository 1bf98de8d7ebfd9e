"""A worker's process, from outside: told things by lines, and heard."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.suites.network import Namespace
from tests.suites.transfer_worker import Start
from tests.system.root import ROOT

COMMAND = (sys.executable, "-m", "tests.suites.transfer_worker")
START_SECONDS = 60.0
END_SECONDS = 10.0
STACK_SECONDS = 0.5


class WorkerLost(Exception):
    """A worker has ended by itself, or does not answer; says what its log ends with."""


class WorkerPart:
    """Leads a session of its own. `events` are what it has said and nobody has asked about."""

    def __init__(self, name: str, start: Start, log: Path, place: Namespace | None = None) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.is_killed = False
        self._log = log
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        words: Sequence[str] = place.command(COMMAND) if place else COMMAND
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                words,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._write(msgspec.json.encode(start).decode())
        self.address = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Raises WorkerLost."""
        self.address = self.hear("ready", START_SECONDS)["address"]

    def tell(self, do: str, **more: object) -> None:
        self._write(msgspec.json.encode({"do": do, **more}).decode())

    def hear(self, event: str, patience_seconds: float) -> dict[str, Any]:
        """The next one of this kind; others are kept. Raises WorkerLost."""
        while True:
            try:
                line = self._said.get(timeout=patience_seconds)
            except queue.Empty:
                raise WorkerLost(f"{self.name} does not say {event!r}{self._tail()}") from None
            if not line and not self.is_killed:
                raise WorkerLost(f"{self.name} has ended by itself{self._tail()}")
            said: dict[str, Any] = msgspec.json.decode(line)
            if said["event"] == event:
                return said
            self.events.append(said)

    def take_events(self) -> list[dict[str, Any]]:
        """What it has said since the last time. Raises WorkerLost if it has ended by itself."""
        while not self._said.empty():
            if line := self._said.get():
                self.events.append(msgspec.json.decode(line))
            elif not self.is_killed:
                raise WorkerLost(f"{self.name} has ended by itself{self._tail()}")
        taken, self.events = self.events, []
        return taken

    def halt(self, is_halted: bool) -> None:
        self._process.send_signal(signal.SIGSTOP if is_halted else signal.SIGCONT)

    def stacks(self) -> str:
        """What its threads are doing now; the first of them is the one that moves KV."""
        num_bytes = self._log.stat().st_size
        self._process.send_signal(signal.SIGUSR1)
        time.sleep(STACK_SECONDS)
        return self._log.read_text(errors="replace")[num_bytes:].strip()

    def kill(self) -> None:
        self.is_killed = True
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._close_pipes()

    def close(self) -> None:
        """Ends it in an orderly way. Raises WorkerLost if that does not work."""
        if self.is_killed:
            return
        self.is_killed = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise WorkerLost(f"{self.name} does not end") from None
        self._reader.join()
        self._close_pipes()
        if status:
            raise WorkerLost(f"{self.name} has ended with status {status}{self._tail()}")

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # UCX has things to say as well
                self._said.put(line)
        self._said.put("")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _tail(self) -> str:
        text = self._log.read_text(errors="replace")[-1500:].strip()
        return f"; its log ends:\n{text}" if text else ""
