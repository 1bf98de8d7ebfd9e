"""How many links a process can have."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

SPARE_FILES = 128
_FILES_FOR_THE_PEER = 8  # what it opens to us, and the watch over its process
_SEGMENTS_EACH = 2
_SHARE_OF_SEGMENTS = 4
_USUAL_SEGMENTS = 4096


def files_open() -> int:
    """The file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def num_links(files_each: int) -> int:
    """By the limit of open files (`ulimit -n`), with some left for everything else, and by a
    fair share of the host's segments of shared memory. At least one.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    by_files = (limit - files_open() - SPARE_FILES) // (files_each + _FILES_FOR_THE_PEER)
    return max(1, min(by_files, _segments() // _SHARE_OF_SEGMENTS // _SEGMENTS_EACH))


def _segments() -> int:
    """Of System V shared memory, for all processes together."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/kernel/shmmni").read_text())
    return _USUAL_SEGMENTS
