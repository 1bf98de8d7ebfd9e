"""The processes of a fleet on this machine, as `baton up` leaves word of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SERVING = ("gateway", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class LocalRun:
    """`url` is the gateway's; `pids` are by process name."""

    url: str
    pids: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> LocalRun | None:
        """From a run's state.json; None if there is no such run."""
        try:
            state = json.loads(path.read_text())
            serving = [each for each in state["processes"] if each["role"] in SERVING]
            return cls(state["url"], {each["name"]: each["identity"]["pid"] for each in serving})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def cpu_percent(self, seconds: float) -> Mapping[str, float]:
        """What each process, its children and all their threads take of a core.

        Watches for so long.
        """
        before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        time.sleep(seconds)
        return {
            name: 100 * (cpu_seconds(pid) - before[name]) / seconds
            for name, pid in self.pids.items()
        }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total
