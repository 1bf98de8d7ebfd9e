"""Metrics of a gateway of several processes: whichever is asked answers for all of them.

prometheus_client keeps the values of each process in files of one folder, so that what a process
has counted outlives it. See https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# prometheus_client reads it when it is imported.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PID_ENDING = ".pid"
# Of what adds up, and stays when its process is gone.
ADDITIVE = ("counter", "histogram")
GONE = "gone"


def shared_folder() -> Path | None:
    """None if this process is the only one."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


class Shared(Collector):
    """What is counted in any process, added up, and of `here` what is no sum: readings that
    every process takes of the same things.
    """

    def __init__(self, folder: Path, here: Iterable[Collector]) -> None:
        self._folder = folder
        self._here = here

    def collect(self) -> Iterator[Metric]:
        summed = {family.name: family for family in self._summed()}
        yield from summed.values()
        for collector in self._here:
            for family in collector.collect():
                if family.name not in summed and family.samples:
                    yield family
        yield from Processes(self._folder).collect()

    def _summed(self) -> Iterable[Metric]:
        with locked(self._folder, fcntl.LOCK_SH):
            found: Iterable[Metric] = MultiProcessCollector(None, str(self._folder)).collect()  # type: ignore[no-untyped-call]
        return found


def bury(folder: Path, pid: int) -> None:
    """What a process that is gone has counted goes into one file for all of these."""
    with locked(folder, fcntl.LOCK_EX):
        for kind in ADDITIVE:
            left = folder / f"{kind}_{pid}.db"
            if left.is_file():
                add_up(left, folder / f"{kind}_{GONE}.db")
                left.unlink()
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def add_up(left: Path, total: Path) -> None:
    totals: Any = MmapedDict(str(total))  # type: ignore[no-untyped-call]
    for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(left)):  # type: ignore[no-untyped-call]
        before, _ = totals.read_value(key)
        totals.write_value(key, before + value, timestamp)
    totals.close()


@contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """So that nothing is counted twice, or not at all, by who reads meanwhile."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, how)
        yield


class Processes(Collector):
    """Memory, processor time and files of each process, which is found by a file with its pid."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for path in sorted(self._folder.glob(f"*{PID_ENDING}")):
            for found in ProcessCollector(pid=path.read_text, registry=None).collect():
                family = families.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                for sample in found.samples:
                    family.add_sample(sample.name, {"process": path.stem}, sample.value)
        yield from families.values()
