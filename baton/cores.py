"""Which processor cores each worker has to itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class CoreAssignment:
    """One set of cores per worker; `rest` is what the gateway and Valkey run on."""

    workers: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...]
    is_shared: bool  # there are more workers than cores


def assign(cores: Sequence[int], num_workers: int) -> CoreAssignment:
    """Equal shares, neighbours together; what is left over, or else everything, is the rest.

    >>> assign(range(5), 2)
    CoreAssignment(workers=((0, 1), (2, 3)), rest=(4,), is_shared=False)
    """
    if len(cores) < num_workers:
        shared = tuple((cores[i % len(cores)],) for i in range(num_workers))
        return CoreAssignment(shared, tuple(cores), is_shared=True)
    # One core stays free for the gateway unless every worker would then have none.
    each = max(1, (len(cores) - 1) // max(1, num_workers))
    workers = tuple(tuple(cores[i * each : (i + 1) * each]) for i in range(num_workers))
    return CoreAssignment(workers, tuple(cores[num_workers * each :]) or tuple(cores), False)


def available_cores(topology: Path = TOPOLOGY) -> tuple[int, ...]:
    """The cores that this process may use, those of one package and physical core together."""
    return tuple(sorted(os.sched_getaffinity(0), key=lambda core: place(core, topology)))


def place(core: int, topology: Path = TOPOLOGY) -> tuple[int, int, int]:
    """(package, physical core, core), by which neighbours sort together."""
    folder = topology / f"cpu{core}" / "topology"
    return read_id(folder / "physical_package_id"), read_id(folder / "core_id"), core


def read_id(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def describe(cores: Sequence[int]) -> str:
    """For people: "core 3", "cores 0-3", "cores 0,2,5"."""
    ordered = sorted(cores)
    if len(ordered) == 1:
        return f"core {ordered[0]}"
    if ordered and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"cores {ordered[0]}-{ordered[-1]}"
    return f"cores {','.join(map(str, ordered))}"
