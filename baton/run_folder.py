"""The folder of one run: its state, its lock, its key, its socket and its logs."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from baton.errors import BadSettings
from fleet.valkey import MAX_SOCKET_PATH

SOCKET_NAME = "valkey.sock"


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path  # absolute

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        return cls(path.expanduser().absolute())

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def fleet_key(self) -> Path:
        return self.path / "fleet.key"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def make(self) -> None:
        """For this user only. Raises BadSettings."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise BadSettings(f"--state-dir {self.path}: {error.strerror or error}") from error

    @property
    def socket(self) -> Path:
        """Where Valkey listens: here, or in /tmp if this folder's path is too long for that."""
        here = self.path / SOCKET_NAME
        if len(str(here)) <= MAX_SOCKET_PATH:
            return here
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path("/tmp", f"baton-{os.getuid()}-{name}.sock")

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether this process has the folder to itself; the kernel frees it when it ends."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield try_lock(descriptor)
        finally:
            os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
