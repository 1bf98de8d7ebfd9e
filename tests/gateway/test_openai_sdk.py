"""OpenAI's own SDK against a whole gateway."""

from __future__ import annotations

import openai
import pytest

from proto import worker_pb2
from tests.gateway.sdk_calls import ANSWER, chat, stream_chat, text_of
from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's routers use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


async def test_a_chat_goes_through_prefill_and_decode(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    answer = await chat(client)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 5
    (decode,), (prefill,) = served.decode.submitted, served.prefill.submitted
    assert decode.ticket == prefill.ticket
    assert decode.ticket.source_worker == "prefill-0"
    assert decode.request == prefill.request
    assert (decode.leg, prefill.leg) == (worker_pb2.ROLE_DECODE, worker_pb2.ROLE_PREFILL)


async def test_a_streamed_chat_with_usage(client: openai.AsyncOpenAI) -> None:
    stream = await stream_chat(client, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 5


async def test_several_choices_share_one_prefill(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    answer = await chat(client, max_tokens=3, n=3, logprobs=True, top_logprobs=2)
    assert [choice.message.content for choice in answer.choices] == ["NOP"] * 3
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert [entry.token for entry in logprobs.content] == ["N", "O", "P"]
    assert len(served.prefill.submitted) == 1
    assert [s.HasField("ticket") for s in served.decode.submitted] == [True, False, False]


async def test_the_choices_of_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(
        model="tiny", prompt="abc", max_tokens=4, n=2, stream=True
    )
    texts = {0: "", 1: ""}
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts[0] == texts[1]
    assert len(texts[0]) == 4


async def test_completions_of_texts_and_of_token_ids(client: openai.AsyncOpenAI) -> None:
    texts = await client.completions.create(
        model="tiny", prompt=["abc", "xyz"], max_tokens=2, echo=True
    )
    assert [choice.text[:3] for choice in texts.choices] == ["abc", "xyz"]
    ids = await client.completions.create(model="tiny", prompt=[40, 41, 42], max_tokens=2)
    assert ids.usage
    assert ids.usage.prompt_tokens == 3


async def test_a_stop_string_ends_the_decode_leg(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    answer = await chat(client, max_tokens=20, stop="P", seed=1)
    assert answer.choices[0].message.content == "NO"
    assert answer.choices[0].finish_reason == "stop"
    await served.decode.until(lambda: not served.decode.open_legs)


async def test_a_json_schema_travels_to_the_worker(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    await chat(client, response_format=form)
    assert b"city" in served.decode.submitted[0].request[0]


async def test_a_forced_tool_travels_to_the_worker(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
    choice = {"type": "function", "function": {"name": "get_weather"}}
    await chat(client, tools=[{"type": "function", "function": function}], tool_choice=choice)
    assert b"get_weather" in served.decode.submitted[0].request[0]


async def test_responses(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="tiny", input="abc def", max_output_tokens=3)
    assert len(answer.output_text) == 3
    stream = await client.responses.create(
        model="tiny", input="abc def", max_output_tokens=3, stream=True
    )
    events = [event async for event in stream]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["tiny", "alias"]
    assert (await client.models.retrieve("alias")).id == "alias"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("none")


async def test_a_one_token_prompt_stays_local(served: Served, client: openai.AsyncOpenAI) -> None:
    await client.completions.create(model="tiny", prompt=[40], max_tokens=2)
    assert not served.prefill.submitted
    assert not served.decode.submitted[0].HasField("ticket")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"model": "none"}, openai.NotFoundError, id="unknown model"),
        pytest.param({"messages": []}, openai.BadRequestError, id="no messages"),
        pytest.param({"max_tokens": -1}, openai.BadRequestError, id="negative max_tokens"),
        pytest.param({"temperature": -1}, openai.BadRequestError, id="bad temperature"),
        pytest.param(
            {"messages": [{"role": "user", "content": "abc " * 600}]},
            openai.BadRequestError,
            id="prompt over the context",
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}},
            openai.BadRequestError,
            id="no schema",
        ),
    ],
)
@pytest.mark.parametrize("send", [chat, stream_chat])
async def test_bad_input_is_the_clients_error(
    served: Served,
    client: openai.AsyncOpenAI,
    change: dict[str, object],
    error: type[openai.APIStatusError],
    send: object,
) -> None:
    assert callable(send)
    with pytest.raises(error) as caught:
        await send(client, **change)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body.keys() == {"message", "type", "param", "code"}
    assert not served.decode.submitted


async def test_what_the_fleet_cannot_do(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Not offered by this gateway: embeddings"):
        await client.embeddings.create(model="tiny", input="abc")
    with pytest.raises(openai.NotFoundError, match="moderation"):
        await client.moderations.create(input="abc")
    with pytest.raises(openai.NotFoundError, match="audio"):
        await client.audio.speech.create(model="tiny", voice="alloy", input="abc")
    with pytest.raises(openai.NotFoundError, match="files"):
        await client.files.list()


async def test_one_failure_leaves_others_alone(served: Served, client: openai.AsyncOpenAI) -> None:
    served.decode.hold_after(1)
    stream = await stream_chat(client)
    with pytest.raises(openai.BadRequestError):
        await chat(client, messages=[])
    served.decode.behaviour.decode_may_go_on.set()
    assert await text_of(stream) == ANSWER


async def test_one_client_cannot_take_all_of_the_gateway(client: openai.AsyncOpenAI) -> None:
    stream = await stream_chat(client)
    with pytest.raises(openai.RateLimitError) as caught:
        await chat(client.with_options(max_retries=0), n=10_000)
    assert caught.value.code == "too_many_requests"
    assert "retry-after" in caught.value.response.headers
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
