"""Shared-memory files that our processes made, so that none outlives them.

A process that ends in an orderly way removes its own. One that is killed does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from baton.identity import PROC

SHM = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Segment:
    """A file by name and inode: another one of the same name is not ours."""

    path: str
    inode: int


@dataclass(slots=True)
class SegmentLedger:
    """Notes which segments our processes have open; removes those that are left at the end.

    Only a segment that did not exist before, that one of ours was seen to use, and that no
    living process uses is ever removed.
    """

    root: Path = SHM
    noted: set[Segment] = field(default_factory=set)
    _before: frozenset[Segment] = field(init=False)

    def __post_init__(self) -> None:
        self._before = frozenset(segments_in(self.root))

    def note(self, pids: Iterable[int]) -> set[Segment]:
        """Remember what these living processes of ours use; what of it was not known yet."""
        used = {segment for pid in pids for segment in segments_of(pid, self.root)}
        fresh = used - self._before - self.noted
        self.noted |= fresh
        return fresh

    def sweep(self) -> tuple[str, ...]:
        """Remove what is ours and in nobody's use; returns the paths removed."""
        left = self.noted & segments_in(self.root)
        if left:
            left -= in_use(self.root)
        for segment in left:
            Path(segment.path).unlink(missing_ok=True)
        self.noted &= segments_in(self.root)
        return tuple(sorted(segment.path for segment in left))


def segments_in(root: Path) -> set[Segment]:
    return {segment for path in listing(root) if (segment := segment_at(path))}


def segments_of(pid: int, root: Path) -> set[Segment]:
    """Those that the process has mapped or open; empty if it may not be looked at."""
    mapped = re.findall(rf" ({re.escape(str(root))}/.+)", read_maps(pid))
    opened = (target(link) for link in listing(PROC / str(pid) / "fd"))
    paths = {*mapped, *(path for path in opened if path.startswith(f"{root}/"))}
    return {segment for path in paths if (segment := segment_at(Path(path)))}


def in_use(root: Path) -> set[Segment]:
    pids = (int(entry.name) for entry in listing(PROC) if entry.name.isdecimal())
    return {segment for pid in pids for segment in segments_of(pid, root)}


def segment_at(path: Path) -> Segment | None:
    try:
        return Segment(str(path), path.lstat().st_ino)
    except OSError:
        return None


def read_maps(pid: int) -> str:
    try:
        return (PROC / str(pid) / "maps").read_text(errors="replace")
    except OSError:
        return ""


def listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
