from __future__ import annotations

from collections import Counter

from tests.suites.transfer_faults import FAULTS
from tests.suites.transfer_plan import plan
from tests.suites.transfer_scene import Place


def test_a_whole_plan_does_every_fault_in_every_place_it_can_be_done() -> None:
    chosen = plan(200)
    assert list(chosen) == list(range(1, 201))
    places = Counter(place for place, _ in chosen.values())
    assert min(places.values()) >= 20
    counts = Counter((place, fault.name) for place, fault in chosen.values())
    assert min(counts[place, fault.name] for fault in FAULTS for place in fault.places) >= 5


def test_a_short_plan_does_as_many_faults_as_it_has_runs() -> None:
    chosen = plan(12, (Place.HOST, Place.TCP))
    assert len({fault.name for _, fault in chosen.values()}) == 12
    assert {place for place, _ in chosen.values()} == {Place.HOST, Place.TCP}
