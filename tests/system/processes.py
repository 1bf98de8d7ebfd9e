"""The processes and shared-memory segments that a command leaves behind, or does not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from baton.identity import PROC, ProcessStat
from tests.system.root import ROOT

# In the environment of everything that one command has started.
MARK = "BATON_SYSTEM_TEST"
SHM = Path("/dev/shm")


def environment(mark: str, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's own, without settings of ours."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    return ours | {"PYTHONPATH": str(ROOT), MARK: mark} | dict(variables or {})


def marked(mark: str) -> dict[int, str]:
    """Processes that carry the mark and have not ended, and those below them: pid and name."""
    needle = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            environ = (PROC / str(process.pid) / "environ").read_bytes()
            if needle in environ.split(b"\0"):
                # An engine's process has no environment to show: its title lies over it.
                for each in (process, *process.children(recursive=True)):
                    found[each.pid] = each.name()
    return {pid: name for pid, name in found.items() if is_alive(pid)}


def is_alive(pid: int) -> bool:
    stat = ProcessStat.read(pid)
    return stat is not None and not stat.is_dead


def orphaned_engines() -> set[int]:
    """Engine processes that have lost the worker that started them."""
    return {
        process.pid
        for process in psutil.process_iter(["name", "ppid"])
        if process.info["name"].startswith("VLLM::") and process.info["ppid"] == 1
    }


def segments() -> set[str]:
    """What lies in shared memory now."""
    return {entry.name for entry in SHM.iterdir()}


def left_segments(before: set[str]) -> set[str]:
    """What has come since, and no living process uses: the machine may have other work."""
    fresh = segments() - before
    return {name for name in fresh if not any(str(SHM / name) in maps for maps in all_maps())}


def all_maps() -> Iterator[str]:
    """Of each living process, the memory that it has mapped."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                yield (entry / "maps").read_text(errors="replace")
