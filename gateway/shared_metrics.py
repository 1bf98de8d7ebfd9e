"""Metrics of a gateway of several processes: whichever is asked answers for all of them.

prometheus_client keeps the values of each process in files of one folder, so that what a process
has counted outlives it. See https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# prometheus_client reads it when it is imported.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PID_ENDING = ".pid"


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
        found: Iterable[Metric] = MultiProcessCollector(None, str(self._folder)).collect()  # type: ignore[no-untyped-call]
        return found


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
