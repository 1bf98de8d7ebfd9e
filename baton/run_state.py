"""What a run tells the commands beside it: `baton status`, `down` and `logs`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from baton.identity import ProcessIdentity
from baton.supervisor import Phase


@dataclass(frozen=True, slots=True)
class ProcessState:
    name: str
    role: str
    phase: Phase
    restarts: int
    cores: tuple[int, ...]
    identity: ProcessIdentity | None  # None while it waits for its next start
    log: str


@dataclass(frozen=True, slots=True)
class RunState:
    """`url` is the gateway's base, without a path; `started_at` is in seconds since the epoch."""

    supervisor: ProcessIdentity
    url: str
    model: str
    fleet: str
    redis: str
    started_at: float
    is_up: bool
    processes: tuple[ProcessState, ...]

    def save(self, path: Path) -> None:
        """Readers see the old state or the new one, never half of one."""
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> RunState | None:
        """None if there is none, or none that can be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, ValueError):
            return None
