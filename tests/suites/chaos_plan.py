"""Which faults are done where, and in what order."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from tests.suites.faults import FAULTS, Fault

HOST_SHARE = 1 / 3


class Place(StrEnum):
    HOST = "both workers inside a host, over shared memory"
    LINK = "workers joined by a link, over TCP"


Plan = Mapping[int, tuple[Place, Fault]]


def plan(num_runs: int) -> Plan:
    """By number, from 1. Each fault in turn, inside a host first."""
    num_host = round(num_runs * HOST_SHARE)
    inside = [fault for fault in FAULTS if not fault.needs_link]
    host = [(Place.HOST, inside[i % len(inside)]) for i in range(num_host)]
    # From the last to the first, so that what only a link can show comes before the rest.
    link = [(Place.LINK, FAULTS[-1 - i % len(FAULTS)]) for i in range(num_runs - num_host)]
    return dict(enumerate((*host, *link), 1))
