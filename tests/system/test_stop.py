"""Ctrl-C ends everything that `baton up` has started."""

from __future__ import annotations

import time

import pytest

from tests.system.live_fleet import LiveFleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_ctrl_c_leaves_no_process_and_no_shared_memory(corrupting_fleet: LiveFleet) -> None:
    lived = corrupting_fleet.living()
    assert sum(name.startswith("VLLM::") for name in lived.values()) == 2
    started_at = time.monotonic()
    exit_code = corrupting_fleet.interrupt()
    assert time.monotonic() - started_at < 10.0
    assert exit_code == 0
    corrupting_fleet.assert_nothing_left(lived)
