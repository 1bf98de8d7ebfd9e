"""The processes and shared-memory segments that a command leaves behind, or does not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from baton.identity import PROC, ProcessStat
from tests.system.root import ROOT

# In the environment of everything that one command has started.
MARK = "BATON_SYSTEM_TEST"
SHM = Path("/dev/shm")


def environment(mark: str, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's own, without settings of ours."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    return ours | {"PYTHONPATH": str(ROOT), MARK: mark} | dict(variables or {})


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Processes that carry the mark and have not ended: pid and command line."""
    needle = f"{MARK}={mark}".encode()
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            is_marked = needle in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        stat = ProcessStat.read(int(entry.name))
        if is_marked and stat and not stat.is_dead:
            yield int(entry.name), command


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
