"""What processes hold of the machine: memory, threads, descriptors, sockets, segments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from baton.identity import PROC
from tests.system.processes import left_segments

SYSV_SEGMENTS = PROC / "sysvipc" / "shm"
ROLLED_UP = re.compile(r"^(Rss|Anonymous):\s+(\d+) kB$", re.MULTILINE)
MAPPED_SEGMENT = re.compile(r"(\d+)\s+(?:/SYSV|/dev/shm/)")


@dataclass(frozen=True, slots=True)
class Level:
    """Of one process. Memory is resident; `anonymous_bytes` of it are no file's, so that no other
    process has a part in it.
    """

    rss_bytes: int
    anonymous_bytes: int
    num_threads: int
    num_descriptors: int
    num_sockets: int
    num_segments: int

    @classmethod
    def of(cls, pid: int) -> Level:
        """Raises OSError or psutil.Error if it is gone."""
        folder = PROC / str(pid)
        memory = dict(ROLLED_UP.findall((folder / "smaps_rollup").read_text()))
        targets = descriptor_targets(pid)
        maps = (folder / "maps").read_text(errors="replace")
        return cls(
            rss_bytes=int(memory["Rss"]) * 1024,
            anonymous_bytes=int(memory["Anonymous"]) * 1024,
            num_threads=psutil.Process(pid).num_threads(),
            num_descriptors=len(targets),
            num_sockets=sum(target.startswith("socket:") for target in targets),
            num_segments=len(set(MAPPED_SEGMENT.findall(maps))),
        )

    @property
    def handles(self) -> Mapping[str, int]:
        """All but memory."""
        return {
            "threads": self.num_threads,
            "descriptors": self.num_descriptors,
            "sockets": self.num_sockets,
            "segments": self.num_segments,
        }


def descriptor_targets(pid: int) -> list[str]:
    """What each open descriptor is; some may be closed while this looks."""
    found = []
    for entry in (PROC / str(pid) / "fd").iterdir():
        with suppress(OSError):
            found.append(str(entry.readlink()))
    return found


def levels(pids: Mapping[str, int]) -> Mapping[str, Level]:
    """Of those that are there, with their children, by name."""
    found: dict[str, Level] = {}
    for name, parent in pids.items():
        with suppress(psutil.Error):
            for label, pid in family(name, parent).items():
                with suppress(OSError, psutil.Error):
                    found[label] = Level.of(pid)
    return found


def family(name: str, pid: int) -> Mapping[str, int]:
    """The process and all below it, by names that are the same after a restart."""
    found = {name: pid}
    for child in psutil.Process(pid).children(recursive=True):
        label = f"{name} {'engine' if child.name().startswith('VLLM') else child.name()}"
        number = sum(each.startswith(label) for each in found)
        found[f"{label} {number + 1}" if number else label] = child.pid
    return found


def abandoned_segments() -> set[str]:
    """Shared memory of either kind that no living process uses."""
    rows = [line.split() for line in SYSV_SEGMENTS.read_text().splitlines()[1:]]
    return left_segments(set()) | {f"sysv {row[1]}" for row in rows if row[6] == "0"}
