"""Calls of OpenAI's SDK with this suite's model and question."""

from __future__ import annotations

from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

MESSAGES = [{"role": "user", "content": "What is the capital?"}]
ANSWER = "NOPQR"


async def chat(client: openai.AsyncOpenAI, **values: Any) -> ChatCompletion:
    """The stand-in worker's five tokens, unless asked for something else."""
    create: Any = client.chat.completions.create
    answer: ChatCompletion = await create(**_with_defaults(values))
    return answer


async def stream_chat(
    client: openai.AsyncOpenAI, **values: Any
) -> openai.AsyncStream[ChatCompletionChunk]:
    create: Any = client.chat.completions.create
    stream: openai.AsyncStream[ChatCompletionChunk]
    stream = await create(stream=True, **_with_defaults(values))
    return stream


async def text_of(stream: openai.AsyncStream[ChatCompletionChunk]) -> str:
    """All that it still brings."""
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    return {"model": "tiny", "messages": MESSAGES, "max_tokens": len(ANSWER), **values}
