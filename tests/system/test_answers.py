"""Prefill here, decode there: the tokens are those of one plain engine, and the KV has moved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.system.layout import Layout, whole_blocks
from tests.system.live_fleet import LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import AT_ONCE, MATRIX, Prompt

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

AGAIN_TOKENS = 3


@pytest.mark.parametrize("prompt", MATRIX, ids=lambda prompt: prompt.name)
def test_tokens_are_those_of_plain_vllm_and_the_kv_has_moved(
    fleet: LiveFleet, reference: Answers, layout: Layout, prompt: Prompt
) -> None:
    prompt = replace(prompt, salt=prompt.name)
    streams_first = bool(MATRIX.index(prompt_of(prompt.name)) % 2)
    expected = reference.prompts[prompt.name]
    before = fleet.report().decode.load.transfers

    first = fleet.complete(prompt, stream=streams_first)
    then = fleet.report().decode.load.transfers
    again = fleet.complete(prompt, stream=not streams_first, max_tokens=AGAIN_TOKENS)
    after = fleet.report().decode.load.transfers

    assert first.ids == expected.ids
    assert first.text == expected.text
    assert first.prompt_ids == prompt.ids
    assert again.ids == expected.ids[:AGAIN_TOKENS]
    num_tokens, num_cached = len(prompt.ids), whole_blocks(len(prompt.ids) - 1)
    assert then.received_bytes - before.received_bytes == layout.moved_bytes(num_tokens)
    assert after.received_bytes - then.received_bytes == layout.moved_bytes(num_tokens, num_cached)
    assert after.loads_failed == before.loads_failed


def prompt_of(name: str) -> Prompt:
    return next(prompt for prompt in MATRIX if prompt.name == name)


def test_eight_at_once_are_each_answered_as_alone(
    fleet: LiveFleet, reference: Answers, layout: Layout
) -> None:
    prompts = [replace(prompt, salt="at once") for prompt in AT_ONCE]
    before = fleet.report().decode.load.transfers

    with ThreadPoolExecutor(len(prompts)) as threads:
        streamed = [index % 2 == 0 for index in range(len(prompts))]
        answers = list(threads.map(lambda p, s: fleet.complete(p, stream=s), prompts, streamed))
    after = fleet.report().decode.load.transfers

    expected = [reference.prompts[prompt.name].ids for prompt in prompts]
    assert [answer.ids for answer in answers] == expected
    moved = sum(layout.moved_bytes(len(prompt.ids)) for prompt in prompts)
    assert after.received_bytes - before.received_bytes == moved
    assert after.loads_failed == before.loads_failed
