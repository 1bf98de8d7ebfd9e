"""Which faults are done where, and how often."""

from __future__ import annotations

from collections.abc import Mapping

from tests.suites.transfer_faults import FAULTS, Fault
from tests.suites.transfer_scene import Place

SHARES = {Place.HOST: 0.47, Place.TCP: 0.38, Place.LINK: 0.15}

Plan = Mapping[int, tuple[Place, Fault]]


def plan(num_runs: int, places: tuple[Place, ...] = tuple(Place)) -> Plan:
    """By number, from 1: place by place, and each fault in turn, on from place to place. What
    the shares leave goes to the first.
    """
    total = sum(SHARES[place] for place in places)
    counts = {place: round(num_runs * SHARES[place] / total) for place in places}
    counts[places[0]] += num_runs - sum(counts.values())
    chosen: list[tuple[Place, Fault]] = []
    for place, count in counts.items():
        faults = [fault for fault in FAULTS if place in fault.places]
        numbers = range(len(chosen), len(chosen) + count)
        chosen += [(place, faults[number % len(faults)]) for number in numbers]
    return dict(enumerate(chosen, 1))
