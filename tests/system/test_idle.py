"""A fleet that has nothing to do does nothing."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.system.live_fleet import LiveFleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SAMPLE_SECONDS = 6.0
MOST_OF_A_CORE = 0.02


def test_idle_workers_and_gateway_leave_the_cores_alone(fleet: LiveFleet) -> None:
    fleet.wait_until_free()
    processes = fleet.serving_processes()
    before = cpu_seconds(processes)
    # What is watched for is that nothing happens.
    time.sleep(SAMPLE_SECONDS)
    used = cpu_seconds(processes) - before
    assert used / SAMPLE_SECONDS < MOST_OF_A_CORE


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """User and system time of all their threads."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)
