"""The real OpenAI SDK against a real fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.system.live_fleet import LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import of_length

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

FRANCE: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]
CITY: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "is_large": {"type": "boolean"}},
    "required": ["city", "is_large"],
    "additionalProperties": False,
}
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        # Without it, vLLM leaves the arguments' form to the model.
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(fleet: LiveFleet) -> Iterator[openai.OpenAI]:
    url = f"{fleet.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_chat(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=fleet.model, messages=FRANCE, temperature=0, max_tokens=24
    )
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_chat_stream_with_usage(fleet: LiveFleet, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=fleet.model,
        messages=FRANCE,
        temperature=0,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "The capital of France is Paris."
    assert chunks[-1].usage is not None
    assert not chunks[-1].choices
    assert chunks[-1].usage.completion_tokens > 5


def test_a_completion_and_its_stream(fleet: LiveFleet, client: openai.OpenAI) -> None:
    whole = client.completions.create(
        model=fleet.model, prompt="One, two, three,", temperature=0, max_tokens=8
    )
    stream = client.completions.create(
        model=fleet.model, prompt="One, two, three,", temperature=0, max_tokens=8, stream=True
    )
    text = "".join(chunk.choices[0].text for chunk in stream)
    assert whole.choices[0].text == text
    assert "four" in text


def test_two_choices(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=fleet.model, messages=FRANCE, n=2, temperature=1.0, seed=7, max_tokens=8
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


def test_a_stop_string(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=fleet.model, messages=FRANCE, temperature=0, max_tokens=24, stop=" France"
    )
    assert answer.choices[0].message.content == "The capital of"
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs(fleet: LiveFleet, client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model=fleet.model,
        messages=FRANCE,
        temperature=0,
        max_tokens=3,
        logprobs=True,
        top_logprobs=2,
    )
    assert chat.choices[0].logprobs is not None
    tokens = chat.choices[0].logprobs.content or []
    assert [token.token for token in tokens] == ["The", " capital", " of"]
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)

    completion = client.completions.create(
        model=fleet.model, prompt="One, two,", temperature=0, max_tokens=3, logprobs=2
    )
    assert completion.choices[0].logprobs is not None
    assert len(completion.choices[0].logprobs.token_logprobs or []) == 3


def test_a_seed_repeats(fleet: LiveFleet, client: openai.OpenAI) -> None:
    texts = {
        client.completions.create(
            model=fleet.model, prompt="A color:", temperature=1.5, seed=seed, max_tokens=12
        )
        .choices[0]
        .text
        for seed in (11, 11, 12)
    }
    assert len(texts) == 2


def test_a_single_token(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=fleet.model, messages=FRANCE, temperature=0, max_tokens=1
    )
    assert answer.choices[0].message.content == "The"
    assert answer.choices[0].finish_reason == "length"


def test_echo(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=fleet.model, prompt="One, two, three,", echo=True, temperature=0, max_tokens=2
    )
    assert answer.choices[0].text.startswith("One, two, three,")


def test_a_prompt_of_token_ids(fleet: LiveFleet, client: openai.OpenAI, reference: Answers) -> None:
    prompt = of_length(129)
    answer = client.completions.create(
        model=fleet.model,
        prompt=list(prompt.ids),
        temperature=0,
        max_tokens=prompt.max_tokens,
        extra_body={"ignore_eos": True},
    )
    assert answer.choices[0].text == reference.prompts[prompt.name].text


def test_a_json_schema(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=fleet.model,
        messages=FRANCE,
        temperature=0,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": CITY, "strict": True},
        },
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert isinstance(found["city"], str)
    assert isinstance(found["is_large"], bool)


def test_a_forced_tool_call(fleet: LiveFleet, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=fleet.model,
        messages=[{"role": "user", "content": "How is the weather in Paris?"}],
        temperature=0,
        max_tokens=60,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)


def test_a_cancelled_stream_holds_nothing(fleet: LiveFleet, client: openai.OpenAI) -> None:
    with client.completions.create(
        model=fleet.model, prompt="Once upon a time", max_tokens=2000, stream=True
    ) as stream:
        assert next(iter(stream)).choices[0].text
    fleet.wait_until_free()


def test_a_response_and_its_stream(fleet: LiveFleet, client: openai.OpenAI) -> None:
    question = "What is the capital of France?"
    whole = client.responses.create(
        model=fleet.model, input=question, temperature=0, max_output_tokens=24
    )
    stream = client.responses.create(
        model=fleet.model, input=question, temperature=0, max_output_tokens=24, stream=True
    )
    deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "Paris" in whole.output_text
    assert "".join(deltas) == whole.output_text


def test_the_models(fleet: LiveFleet, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [fleet.model]
    assert client.models.retrieve(fleet.model).id == fleet.model


def test_embeddings_are_refused_clearly(fleet: LiveFleet, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.embeddings.create(model=fleet.model, input="hello")
    assert "embeddings" in refusal.value.message
