"""A process by more than its number, which the kernel gives again to others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/<pid>/stat says. `start_ticks` are since boot."""

    state: str
    session: int
    start_ticks: int

    @classmethod
    def read(cls, pid: int) -> ProcessStat | None:
        """None if there is no such process."""
        try:
            text = (PROC / str(pid) / "stat").read_text()
        except OSError:
            return None
        # The command's name, in parentheses, may hold anything.
        fields = text.rpartition(")")[2].split()
        return cls(state=fields[0], session=int(fields[3]), start_ticks=int(fields[19]))

    @property
    def is_dead(self) -> bool:
        """Ended, and perhaps not yet collected by its parent."""
        return self.state in "ZX"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid and when it was given. Equal identities are the same process."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """None if there is no such process."""
        stat = ProcessStat.read(pid)
        return cls(pid, stat.start_ticks) if stat else None

    def is_alive(self) -> bool:
        stat = ProcessStat.read(self.pid)
        return bool(stat and not stat.is_dead and stat.start_ticks == self.start_ticks)
