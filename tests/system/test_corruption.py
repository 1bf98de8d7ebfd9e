"""KV that was changed on its way is refused; changed before, the checks of test_answers.py
notice it.
"""

from __future__ import annotations

import pytest

from tests.system.layout import Layout
from tests.system.live_fleet import LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import of_length

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize("length", [64, 640])
def test_kv_that_was_changed_on_its_way_is_computed_again(
    corrupting_fleet: LiveFleet, reference: Answers, length: int
) -> None:
    prompt = of_length(length)
    before = corrupting_fleet.report().decode.load.transfers
    answer = corrupting_fleet.complete(prompt)
    after = corrupting_fleet.report().decode.load.transfers

    assert answer.ids == reference.prompts[prompt.name].ids
    assert after.loads_failed == before.loads_failed + 1
    assert after.received_bytes == before.received_bytes


@pytest.mark.parametrize("length", [64, 300, 640])
def test_tokens_differ_when_kv_was_changed_before(
    falsifying_fleet: LiveFleet, reference: Answers, layout: Layout, length: int
) -> None:
    prompt = of_length(length)
    before = falsifying_fleet.report().decode.load.transfers
    answer = falsifying_fleet.complete(prompt)
    after = falsifying_fleet.report().decode.load.transfers

    assert answer.ids != reference.prompts[prompt.name].ids
    assert after.received_bytes - before.received_bytes == layout.moved_bytes(length)


def test_a_prompt_that_nothing_moves_for_is_answered_right(
    corrupting_fleet: LiveFleet, reference: Answers
) -> None:
    prompt = of_length(1)
    assert corrupting_fleet.complete(prompt).ids == reference.prompts[prompt.name].ids
