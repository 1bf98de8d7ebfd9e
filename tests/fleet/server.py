"""A real Valkey for tests, to be stopped and started at will."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from fleet.valkey import ValkeyServer

START_SECONDS = 10.0


class RunningValkey:
    def __init__(self, folder: Path) -> None:
        # pytest's own folders are too deep for a unix socket.
        self._short = tempfile.TemporaryDirectory(prefix="baton-test-")
        self._server = ValkeyServer(Path(self._short.name, "valkey.sock"))
        self._log = folder / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._short.cleanup()

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._server.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not answers(self._server.socket):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.01)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
