"""However a request ends, both engines give back all that it held, at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.exchange import calling
from tests.system.fleet_report import FleetReport
from tests.system.live_fleet import LiveFleet
from tests.system.prompts import CHUNK_TOKENS, Prompt, random_ids
from tests.system.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# Several chunks: an engine cannot be stopped within a step, and is after it.
LENGTH = 2 * CHUNK_TOKENS
PATIENCE_SECONDS = 30.0


def fresh_prompt(name: str) -> Prompt:
    return Prompt(name, random_ids(name, LENGTH), max_tokens=200)


def test_after_an_answer(fleet: LiveFleet) -> None:
    before = fleet.report()
    prompt = fresh_prompt("freed after an answer")
    fleet.complete(prompt, max_tokens=4)
    fleet.wait_until_free(before.sends_ended + 1)
    assert fleet.report().decode.load.transfers.loads_failed == (
        before.decode.load.transfers.loads_failed
    )


def is_under_way(before: FleetReport, now: FleetReport) -> bool:
    """The decode worker waits for KV."""
    return now.decode.load.transfers.open_loads == 1


def is_moving(before: FleetReport, now: FleetReport) -> bool:
    """Some of the KV has come."""
    moved = now.decode.load.transfers
    has_come = moved.received_bytes > before.decode.load.transfers.received_bytes
    return has_come and moved.open_loads == 1


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    "is_time",
    [
        pytest.param(is_under_way, id="during-prefill"),
        pytest.param(is_moving, id="during-transfer"),
    ],
)
def test_after_a_client_hung_up_before_the_first_token(
    fleet: LiveFleet, is_time: Callable[[FleetReport, FleetReport], bool], stream: bool
) -> None:
    before = fleet.report()
    prompt = fresh_prompt(f"freed before the first token {is_time.__name__} {stream}")
    with calling(f"{fleet.url}/v1/completions", fleet.body(prompt, stream=stream)):
        wait_until(lambda: is_time(before, fleet.report()), PATIENCE_SECONDS)
    fleet.wait_until_free(before.sends_ended + 1)


def test_after_a_client_hung_up_during_decode(fleet: LiveFleet) -> None:
    before = fleet.report()
    prompt = fresh_prompt("freed during decode")
    with calling(f"{fleet.url}/v1/completions", fleet.body(prompt, stream=True)) as caller:
        caller.read_events(4)
        assert fleet.report().decode.holds["running"] == 1
    fleet.wait_until_free(before.sends_ended + 1)
