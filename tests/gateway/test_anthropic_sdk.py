"""Anthropic's own SDK against a whole gateway."""

from __future__ import annotations

import anthropic
import pytest
from anthropic.types import MessageParam, TextBlock

from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's routers use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MESSAGES: list[MessageParam] = [{"role": "user", "content": "What is the capital?"}]


async def test_a_message(served: Served, claude: anthropic.AsyncAnthropic) -> None:
    answer = await claude.messages.create(model="tiny", max_tokens=5, messages=MESSAGES)
    (block,) = answer.content
    assert isinstance(block, TextBlock)
    assert block.text == "NOPQR"
    assert answer.stop_reason == "max_tokens"
    assert len(served.prefill.submitted) == 1


async def test_a_streamed_message(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(model="tiny", max_tokens=5, messages=MESSAGES) as stream:
        assert "".join([text async for text in stream.text_stream]) == "NOPQR"


async def test_tokens_are_counted(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(model="tiny", messages=MESSAGES)
    assert counted.input_tokens > 5


@pytest.mark.parametrize(
    ("values", "error", "kind"),
    [
        pytest.param(
            {"model": "none"}, anthropic.NotFoundError, "not_found_error", id="unknown model"
        ),
        pytest.param(
            {"messages": []}, anthropic.BadRequestError, "invalid_request_error", id="no messages"
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": "abc " * 600}]},
            anthropic.BadRequestError,
            "invalid_request_error",
            id="prompt over the context",
        ),
        pytest.param(
            {"max_tokens": -1}, anthropic.BadRequestError, "invalid_request_error", id="negative"
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": "a" * 2**20}]},
            anthropic.RequestTooLargeError,
            "request_too_large",
            id="large body",
        ),
    ],
)
async def test_errors_are_in_anthropics_shape(
    claude: anthropic.AsyncAnthropic,
    values: dict[str, object],
    error: type[anthropic.APIStatusError],
    kind: str,
) -> None:
    request = {"model": "tiny", "max_tokens": 5, "messages": MESSAGES, **values}
    with pytest.raises(error) as caught:
        await claude.post("/v1/messages", body=request, cast_to=object)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == kind


async def test_what_the_fleet_cannot_do(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="message batches"):
        await claude.messages.batches.list()
