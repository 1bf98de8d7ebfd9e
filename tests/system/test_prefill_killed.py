"""A prefill worker that dies costs time, and nothing else."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.layout import Layout
from tests.system.live_fleet import START_SECONDS, LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import LOST, Prompt, random_ids
from tests.system.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PATIENCE_SECONDS = 30.0


def test_a_prompt_whose_prefill_worker_is_killed_is_answered_right(
    last_of_fleet: LiveFleet, reference: Answers, layout: Layout
) -> None:
    fleet = last_of_fleet
    before, revoked = fleet.report(), fleet.metrics().handoffs("revoked")

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(fleet.complete, LOST)
        moved = before.decode.load.transfers.received_bytes
        wait_until(
            lambda: fleet.report().decode.load.transfers.received_bytes > moved, PATIENCE_SECONDS
        )
        os.kill(fleet.pid("prefill-0"), signal.SIGKILL)
        found = answer.result(PATIENCE_SECONDS)

    assert found.ids == reference.prompts[LOST.name].ids
    assert fleet.metrics().handoffs("revoked") == revoked + 1
    wait_until(lambda: not fleet.report().decode.holds, 2.0)
    assert fleet.report().decode.load.transfers.loads_failed == 1

    wait_until(lambda: has_another(fleet, before.prefill.incarnation), START_SECONDS)
    before_another = fleet.report().decode.load.transfers
    another = Prompt("another", random_ids("another", 300))
    fleet.complete(another)
    after = fleet.report().decode.load.transfers
    assert after.received_bytes - before_another.received_bytes == layout.moved_bytes(300)
    (killed,) = (each for each in fleet.state.processes if each.name == "prefill-0")
    assert killed.restarts == 1


def has_another(fleet: LiveFleet, incarnation: str) -> bool:
    """A prefill worker of another incarnation is ready."""
    return any(
        each.role == "prefill" and each.state == "ready" and each.incarnation != incarnation
        for each in fleet.report().workers
    )
