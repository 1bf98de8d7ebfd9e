from __future__ import annotations

import threading
import time

from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.halves import begin, transfer


def cpu_seconds_of_transfer_threads() -> float:
    idents = [t.ident for t in threading.enumerate() if t.name == "baton-transfer"]
    assert idents
    clocks = [time.pthread_getcpuclockid(ident) for ident in idents if ident]
    return sum(time.clock_gettime(clock) for clock in clocks)


def test_waiting_costs_nothing(fleet: Fleet) -> None:
    """Two workers that are idle, and two of which one waits for a prompt and one is waited for."""
    idle, waiting = [fleet.worker(), fleet.worker()], [fleet.worker(), fleet.worker()]
    transfer(idle[0], idle[1], 2)
    transfer(waiting[0], waiting[1], 2)
    begin(waiting[0], waiting[1])
    waiting[1].wait_for("d2")
    before = cpu_seconds_of_transfer_threads()
    threading.Event().wait(2.0)
    assert cpu_seconds_of_transfer_threads() - before < 0.02
