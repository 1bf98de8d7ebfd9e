from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Message

from gateway.answer import Answer
from gateway.error_shape import Dialect, ErrorObject
from gateway.errors import WorkerLost
from gateway.exchange import Exchange

STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
JSON = (b"content-type", b"application/json")


class Client:
    """What a client has received."""

    def __init__(self, dialect: Dialect = Dialect.OPENAI) -> None:
        self.received: list[Message] = []
        self.exchange = Exchange("id-1")
        self.answer = Answer(self._receive, self.exchange, dialect)

    async def _receive(self, message: Message) -> None:
        self.received.append(message)

    async def start(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await self.answer.send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    async def body(self, body: bytes, more: bool = True) -> None:
        await self.answer.send({"type": "http.response.body", "body": body, "more_body": more})

    @property
    def status(self) -> int:
        assert [m["type"] for m in self.received].count("http.response.start") == 1
        status: int = self.received[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.received[0]["headers"])

    @property
    def content(self) -> bytes:
        return b"".join(message["body"] for message in self.received[1:])

    @property
    def is_complete(self) -> bool:
        return not self.received[-1].get("more_body", True)


async def test_nothing_is_sent_before_the_first_byte() -> None:
    client = Client()
    await client.start(200, STREAM)
    assert client.received == []
    await client.body(b"data: 1\n\n")
    await client.body(b"data: 2\n\n", more=False)
    await client.answer.finish()
    assert client.status == client.answer.status == 200
    assert client.content == b"data: 1\n\ndata: 2\n\n"
    assert client.headers[b"x-request-id"] == b"id-1"


async def test_a_failure_before_the_first_byte_has_a_status() -> None:
    client = Client()
    await client.start(200, STREAM)
    client.exchange.fail(WorkerLost("d"))
    await client.body(b"data: whatever the front half says\n\n")
    await client.body(b"data: [DONE]\n\n", more=False)
    await client.answer.finish()
    assert client.status == 503
    assert client.headers[b"retry-after"] == b"1"
    assert json.loads(client.content)["error"]["code"] == "worker_lost"
    assert client.is_complete


@pytest.mark.parametrize(
    ("dialect", "beginning", "end"),
    [
        (Dialect.OPENAI, b'data: {"error": {', b"data: [DONE]\n\n"),
        (
            Dialect.RESPONSES,
            b'event: error\ndata: {"type": "error", "code": "worker_lost"',
            b"\n\n",
        ),
        (Dialect.ANTHROPIC, b'event: error\ndata: {"type": "error", "error": {', b"\n\n"),
    ],
)
async def test_a_failure_amid_a_stream_is_its_last_event(
    dialect: Dialect, beginning: bytes, end: bytes
) -> None:
    client = Client(dialect)
    await client.start(200, STREAM)
    await client.body(b"data: 1\n\n")
    client.exchange.fail(WorkerLost("d"))
    await client.body(b"data: 2\n\n")
    await client.body(b"data: 3\n\n", more=False)
    assert client.content.startswith(b"data: 1\n\n" + beginning)
    assert client.content.endswith(end)
    assert b"data: 2" not in client.content
    assert client.is_complete


async def test_responses_count_their_events_on() -> None:
    client = Client(Dialect.RESPONSES)
    await client.start(200, STREAM)
    await client.body(
        b'event: x\ndata: {"sequence_number":4}\n\nevent: y\ndata: {"sequence_number":5}'
    )
    await client.answer.fail(ErrorObject(503, "lost"))
    assert b'"sequence_number": 6' in client.content


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b'{"detail": "Not Found"}', "Not Found", id="FastAPI's"),
        pytest.param(b'{"error": "Unauthorized"}', "Unauthorized", id="a bare string"),
        pytest.param(b"Disallowed CORS origin", "Disallowed CORS origin", id="plain text"),
        pytest.param(b'{"error": {"message": "no", "type": "t", "code": 404}}', "no", id="vLLM's"),
        pytest.param(b"", "Not Found", id="nothing"),
    ],
)
async def test_every_error_leaves_in_shape(body: bytes, message: str) -> None:
    for dialect in Dialect:
        client = Client(dialect)
        await client.start(404, JSON, (b"retry-after", b"7"))
        await client.body(body[:5])
        await client.body(body[5:], more=False)
        content: dict[str, Any] = json.loads(client.content)
        assert client.status == 404
        assert content["error"]["message"] == message
        assert (content.get("type") == "error") == (dialect is Dialect.ANTHROPIC)
        assert client.headers[b"retry-after"] == b"7"
        assert int(client.headers[b"content-length"]) == len(client.content)


async def test_a_front_half_that_says_nothing_is_made_up_for() -> None:
    client = Client()
    await client.answer.finish()
    assert client.status == 500
    failed = Client()
    failed.exchange.fail(WorkerLost("d"))
    await failed.answer.finish()
    assert failed.status == 503


async def test_a_page_of_our_own_goes_as_it_is() -> None:
    client = Client()
    await client.answer.show(503, b"application/json", b"{}")
    assert (client.status, client.content) == (503, b"{}")
    assert client.is_complete
