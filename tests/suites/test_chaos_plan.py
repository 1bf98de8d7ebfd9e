"""Every fault has its runs, and what needs a link gets one."""

from __future__ import annotations

import pytest

from tests.suites.chaos_plan import Place, plan
from tests.suites.faults import FAULTS


@pytest.mark.parametrize("num_runs", [20, 24, 100])
def test_every_fault_is_done_over_a_link_and_the_others_inside_a_host_too(num_runs: int) -> None:
    runs = plan(num_runs)
    assert sorted(runs) == list(range(1, num_runs + 1))
    done = {place: {f.name for where, f in runs.values() if where is place} for place in Place}
    assert done[Place.LINK] == {fault.name for fault in FAULTS}
    assert done[Place.HOST] == {fault.name for fault in FAULTS if not fault.needs_link}


def test_errors_are_allowed_where_the_decode_worker_is_hit_and_nowhere_else() -> None:
    assert {fault.name for fault in FAULTS if fault.allows_errors} == {
        "decode killed",
        "decode stopped, then resumed",
        "ticket of a restarted worker",
    }
