"""The real Anthropic SDK against a real fleet."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import MessageParam

from tests.system.live_fleet import LiveFleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

FRANCE: list[MessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
# This SDK has left the parameter behind.
GREEDY = {"temperature": 0}


@pytest.fixture
def client(fleet: LiveFleet) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=fleet.url, api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


def test_a_message(fleet: LiveFleet, client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model=fleet.model, messages=FRANCE, max_tokens=24, extra_body=GREEDY
    )
    assert answer.content[0].type == "text"
    assert "Paris" in answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 5


def test_a_message_stream(fleet: LiveFleet, client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model=fleet.model, messages=FRANCE, max_tokens=24, extra_body=GREEDY
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "Paris" in text
    assert final.stop_reason == "end_turn"


def test_an_unknown_model(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refusal:
        client.messages.create(model="nobody", messages=FRANCE, max_tokens=8)
    assert refusal.value.type == "not_found_error"
