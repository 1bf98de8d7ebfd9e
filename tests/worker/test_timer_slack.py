"""Timer slack: kept by the threads started under it, and by them alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from worker.timer_slack import timer_slack

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="a setting of Linux")


def slack_nanoseconds(thread_id: int) -> int:
    return int(Path(f"/proc/{thread_id}/timerslack_ns").read_text())


def test_a_thread_started_under_it_keeps_it_and_the_starter_does_not() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, args=(30,))
    before = slack_nanoseconds(threading.get_native_id())
    with timer_slack(0.5):
        thread.start()
    try:
        assert thread.native_id is not None
        assert slack_nanoseconds(thread.native_id) == 500_000_000
        assert slack_nanoseconds(threading.get_native_id()) == before
    finally:
        done.set()
        thread.join()


def test_it_ends_with_the_error_that_ended_it() -> None:
    before = slack_nanoseconds(threading.get_native_id())
    with pytest.raises(RuntimeError), timer_slack(0.5):
        raise RuntimeError
    assert slack_nanoseconds(threading.get_native_id()) == before
