"""KV that has left the prefill worker's cache is used again, not computed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.system.layout import Layout, whole_blocks
from tests.system.live_fleet import LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import MATRIX, Prompt

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LONG = "length-2048"
# Together more than the caches have room for, and than host memory has.
OTHERS = ("length-1025", "length-1024", "length-900", "length-640", "length-513")


def prompt_of(name: str) -> Prompt:
    (found,) = (prompt for prompt in MATRIX if prompt.name == name)
    return replace(found, salt="cold")


def test_a_prompt_that_left_the_cache_comes_back_and_is_handed_over(
    offloading_fleet: LiveFleet, reference: Answers, layout: Layout
) -> None:
    fleet, prompt = offloading_fleet, prompt_of(LONG)
    answers = [fleet.complete(each) for each in (prompt, *map(prompt_of, OTHERS))]
    expected = [reference.prompts[name].ids for name in (LONG, *OTHERS)]
    assert [answer.ids for answer in answers] == expected
    before = fleet.report()

    again = fleet.complete(prompt)
    after = fleet.report()

    assert again.ids == expected[0]
    offloads = [each.prefill.load.offloads for each in (before, after)]
    num_bytes = whole_blocks(len(prompt.ids)) * layout.bytes_per_token
    assert offloads[1].loaded_bytes - offloads[0].loaded_bytes == num_bytes
    assert offloads[1].loads - offloads[0].loads == 1
    assert offloads[1].read_bytes - offloads[0].read_bytes == num_bytes
    moved = [each.decode.load.transfers.received_bytes for each in (before, after)]
    assert moved[1] - moved[0] == layout.moved_bytes(len(prompt.ids))
    fleet.wait_until_free()


def test_what_is_kept_is_told(offloading_fleet: LiveFleet) -> None:
    offloads = offloading_fleet.report().prefill.load.offloads
    assert offloads.stored_bytes == offloads.written_bytes > 0
    metric = 'worker="prefill-0"'
    value = offloading_fleet.metrics().value("baton_worker_offload_stored_bytes_total", metric)
    assert value == offloads.stored_bytes
