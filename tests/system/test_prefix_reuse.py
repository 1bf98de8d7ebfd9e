"""What either side has already is neither computed nor moved again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.system.exchange import Answered, ask
from tests.system.layout import Layout, common_prefix, whole_blocks
from tests.system.live_fleet import LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import CHAT, SHARED, SHARED_AT_ONCE, SHARED_TOKENS

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_shared_prefix_is_moved_once(
    fleet: LiveFleet, reference: Answers, layout: Layout
) -> None:
    cached = (0, SHARED_TOKENS)
    for prompt, num_cached in zip(SHARED, cached, strict=True):
        before = fleet.report().decode.load.transfers
        answer = fleet.complete(prompt)
        after = fleet.report().decode.load.transfers
        assert answer.ids == reference.prompts[prompt.name].ids
        moved = after.received_bytes - before.received_bytes
        assert moved == layout.moved_bytes(len(prompt.ids), num_cached)
        assert after.loads_failed == before.loads_failed


def test_prompts_that_share_a_prefix_at_once_are_each_answered_as_alone(
    fleet: LiveFleet, reference: Answers
) -> None:
    with ThreadPoolExecutor(len(SHARED_AT_ONCE)) as threads:
        answers = list(threads.map(fleet.complete, SHARED_AT_ONCE))
    expected = [reference.prompts[prompt.name].ids for prompt in SHARED_AT_ONCE]
    assert [answer.ids for answer in answers] == expected


def test_a_second_turn_computes_and_moves_only_what_is_new(
    fleet: LiveFleet, reference: Answers, layout: Layout
) -> None:
    expected = reference.conversations[CHAT.name]
    messages: list[dict[str, str]] = []
    answers: list[Answered] = []
    moved: list[int] = []
    counted: list[dict[str, int]] = []
    prefill_seconds: list[float] = []
    for turn, said in enumerate(CHAT.turns):
        messages.append({"role": "user", "content": said})
        before, metrics_before = fleet.report(), fleet.metrics()
        answers.append(chat(fleet, messages, stream=turn % 2 == 1))
        after, metrics_after = fleet.report(), fleet.metrics()
        messages.append({"role": "assistant", "content": answers[-1].text})
        transfers = after.decode.load.transfers
        moved.append(transfers.received_bytes - before.decode.load.transfers.received_bytes)
        counted.append(difference(metrics_before.prompt_tokens(), metrics_after.prompt_tokens()))
        seconds = metrics_after.stage_seconds("prefill") - metrics_before.stage_seconds("prefill")
        prefill_seconds.append(seconds)
        assert transfers.loads_failed == before.decode.load.transfers.loads_failed

    assert [answer.prompt_ids for answer in answers] == [turn.prompt_ids for turn in expected]
    assert [answer.ids for answer in answers] == [turn.ids for turn in expected]
    cached = [0, *(held_by_decode(first, second) for first, second in pairwise(answers))]
    assert moved == [
        layout.moved_bytes(len(answer.prompt_ids), num_cached)
        for answer, num_cached in zip(answers, cached, strict=True)
    ]
    assert counted == [
        {
            "local_compute": 1,
            "local_cache_hit": num_cached,
            "external_kv_transfer": len(answer.prompt_ids) - 1 - num_cached,
        }
        for answer, num_cached in zip(answers, cached, strict=True)
    ]
    # The prefill worker has the first prompt's whole blocks, four fifths of the second prompt.
    assert max(prefill_seconds[1:]) < prefill_seconds[0] / 2


def chat(fleet: LiveFleet, messages: list[dict[str, str]], **more: Any) -> Answered:
    body = {"model": fleet.model, "messages": messages, "max_tokens": CHAT.max_tokens, **more}
    return ask(f"{fleet.url}/v1/chat/completions", body)


def held_by_decode(first: Answered, second: Answered) -> int:
    """Tokens of the second prompt that the decode worker has: the KV of the first answer's
    last token was never computed.
    """
    computed = first.prompt_ids + first.ids[:-1]
    shared = common_prefix(computed, second.prompt_ids)
    return whole_blocks(min(shared, len(second.prompt_ids) - 1))


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in after.items()}
