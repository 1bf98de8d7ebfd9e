from __future__ import annotations

import logging

import pytest

from kvtransfer.complaints import PAUSE_SECONDS, Complaints


def test_the_first_is_logged_and_then_one_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    complaints = Complaints(logging.getLogger("complaints"), lambda: now)
    for _ in range(1000):
        complaints.add("bad")
    assert [record.getMessage() for record in caplog.records] == ["bad"]
    now = PAUSE_SECONDS
    complaints.add("worse")
    assert caplog.records[-1].getMessage() == "worse (and 999 more like it)"
    now = 2 * PAUSE_SECONDS
    complaints.add("again")
    assert caplog.records[-1].getMessage() == "again"
