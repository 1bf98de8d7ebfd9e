"""What clients see when workers are lost, refuse, fail or are left alone."""

from __future__ import annotations

import asyncio

import anthropic
import openai
import pytest
from anthropic.types import MessageParam

from tests.gateway.builders import PATIENCE_SECONDS
from tests.gateway.sdk_calls import ANSWER, MESSAGES, chat, stream_chat, text_of
from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's routers use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


QUESTION: list[MessageParam] = [{"role": "user", "content": "abc"}]


async def lose_decode(served: Served) -> None:
    """It is gone, and the gateway knows."""
    await served.decode.stop()
    link = served.gateway.roster.links[served.decode.key]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while link.is_usable:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def regain(served: Served) -> None:
    for worker in served.workers:
        await worker.start()
    await served.gateway.roster.wait_for(1, 1, PATIENCE_SECONDS)


async def test_a_cancelled_call_frees_both_workers(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.prefill.behaviour.prefill_may_end.clear()
    call = asyncio.ensure_future(chat(client))
    await served.prefill.until(lambda: served.prefill.open_legs)
    await served.decode.until(lambda: served.decode.open_legs)
    call.cancel()
    await served.prefill.until(lambda: served.prefill.aborted)
    await served.decode.until(lambda: served.decode.aborted)
    ticket_id = served.decode.submitted[0].ticket.id
    await served.prefill.until(lambda: served.prefill.revoked == [ticket_id])


async def test_a_cancelled_call_frees_decode_while_it_waits_for_kv(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.decode.behaviour.decode_may_go_on.clear()
    call = asyncio.ensure_future(stream_chat(client, n=2))
    await served.prefill.until(lambda: served.prefill.submitted and not served.prefill.open_legs)
    call.cancel()
    await served.decode.until(lambda: served.decode.aborted)


async def test_a_closed_stream_frees_decode(served: Served, client: openai.AsyncOpenAI) -> None:
    served.decode.hold_after(2)
    stream = await stream_chat(client, max_tokens=50)
    await anext(aiter(stream))
    await stream.close()
    await served.decode.until(lambda: served.decode.aborted)


@pytest.mark.parametrize("send", [chat, stream_chat])
async def test_a_lost_decode_worker_before_the_first_token_is_a_503(
    served: Served, client: openai.AsyncOpenAI, send: object
) -> None:
    assert callable(send)
    served.decode.behaviour.decode_may_go_on.clear()
    call = asyncio.ensure_future(send(client))
    await served.decode.until(lambda: served.decode.open_legs)
    await served.decode.stop()
    with pytest.raises(openai.InternalServerError) as caught:
        await call
    assert caught.value.status_code == 503
    assert (caught.value.type, caught.value.code) == ("service_unavailable", "worker_lost")
    assert caught.value.response.headers["retry-after"] == "1"
    await regain(served)


async def test_a_lost_decode_worker_ends_a_stream_by_an_error(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.decode.hold_after(2)
    stream = await stream_chat(client, max_tokens=50)
    await anext(aiter(stream))
    await served.decode.stop()
    with pytest.raises(openai.APIError, match="was lost"):
        await text_of(stream)
    await regain(served)


async def test_a_lost_decode_worker_ends_responses_by_an_error_event(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.decode.hold_after(2)
    stream = await client.responses.create(
        model="tiny", input="abc", max_output_tokens=50, stream=True
    )
    first = await anext(aiter(stream))
    await served.decode.until(lambda: served.decode.open_legs)
    await served.decode.stop()
    rest = [event async for event in stream]
    assert rest[-1].type == "error"
    assert rest[-1].code == "worker_lost"
    assert rest[-1].sequence_number > first.sequence_number
    await regain(served)


async def lose_decode_amid_a_message(served: Served, claude: anthropic.AsyncAnthropic) -> None:
    served.decode.hold_after(2)
    async with claude.messages.stream(model="tiny", max_tokens=50, messages=QUESTION) as stream:
        async for event in stream:
            if event.type == "text":
                await served.decode.stop()


async def test_a_lost_decode_worker_in_anthropics_words(
    served: Served, claude: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        await lose_decode_amid_a_message(served, claude)
    with pytest.raises(anthropic.APIStatusError, match="No decode worker") as caught:
        await claude.messages.create(model="tiny", max_tokens=5, messages=QUESTION)
    assert caught.value.status_code == 503
    await regain(served)


async def test_a_lost_prefill_worker_is_made_up_for(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.prefill.behaviour.prefill_may_end.clear()
    call = asyncio.ensure_future(chat(client))
    await served.prefill.until(lambda: served.prefill.open_legs)
    await served.prefill.stop()
    assert (await call).choices[0].message.content == ANSWER
    assert served.decode.revoked == [served.decode.submitted[0].ticket.id]
    await regain(served)


async def test_without_prefill_workers_decode_does_it_all(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    await served.prefill.stop()
    link = served.gateway.roster.links[served.prefill.key]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while link.is_usable:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert (await chat(client)).choices[0].message.content == ANSWER
    assert not served.decode.submitted[0].HasField("ticket")
    await regain(served)


async def test_a_refused_prefill_is_made_up_for(served: Served, client: openai.AsyncOpenAI) -> None:
    served.prefill.behaviour.refuse_with = "draining"
    assert (await chat(client)).choices[0].message.content == ANSWER
    assert served.decode.revoked


@pytest.mark.parametrize("send", [chat, stream_chat])
async def test_a_refused_decode_is_a_503(
    served: Served, client: openai.AsyncOpenAI, send: object
) -> None:
    assert callable(send)
    served.decode.behaviour.refuse_with = "draining"
    with pytest.raises(openai.InternalServerError, match="draining") as caught:
        await send(client, n=2)
    assert caught.value.status_code == 503


async def test_an_engine_error_is_a_503(served: Served, client: openai.AsyncOpenAI) -> None:
    served.decode.behaviour.finish_with = "error"
    with pytest.raises(openai.InternalServerError, match="the engine ended it by error"):
        await chat(client, max_tokens=1)
    with pytest.raises(openai.InternalServerError, match="the engine ended it by error"):
        await stream_chat(client, max_tokens=1)
    with pytest.raises(openai.APIError, match="the engine ended it by error"):
        await text_of(await stream_chat(client, max_tokens=3))


async def test_a_truncation_by_the_worker_is_no_answer(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.decode.behaviour.finish_with = "abort"
    with pytest.raises(openai.InternalServerError, match="the engine ended it by abort"):
        await chat(client)


async def test_without_decode_workers_it_is_a_503_at_once(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    await lose_decode(served)
    for call in (
        chat(client),
        stream_chat(client),
        client.completions.create(model="tiny", prompt="abc"),
        client.completions.create(model="tiny", prompt="abc", stream=True),
        client.responses.create(model="tiny", input="abc"),
        client.responses.create(model="tiny", input="abc", stream=True),
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await call
        assert caught.value.status_code == 503
        assert caught.value.code == "no_decode_worker"
        assert caught.value.response.headers["retry-after"] == "5"
    await regain(served)


async def test_garbled_outputs_cost_the_session_and_no_more(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    served.decode.behaviour.garbles_outputs = True
    with pytest.raises(openai.InternalServerError, match="was lost"):
        await chat(client)
    served.decode.behaviour.garbles_outputs = False
    await served.gateway.roster.wait_for(1, 1, PATIENCE_SECONDS)
    assert (await chat(client)).choices[0].message.content == ANSWER


async def test_a_worker_restarted_elsewhere_is_found(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    old = served.decode.key
    await served.decode.restart()
    await served.members.join(served.decode.member, 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while old in served.gateway.roster.links:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await served.gateway.roster.wait_for(1, 1, PATIENCE_SECONDS)
    assert (await chat(client, messages=MESSAGES)).choices[0].message.content == ANSWER
