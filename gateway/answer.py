"""One HTTP answer on its way out: its head held back until it is sure, its errors shaped."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Sequence
from enum import Enum

from starlette.types import Message, Send

from gateway.error_shape import INTERNAL, Dialect, ErrorObject, body_of, last_events_of
from gateway.exchange import Exchange

Headers = Sequence[tuple[bytes, bytes]]

SEQUENCE_NUMBER = re.compile(rb'"sequence_number":\s*(\d+)')
EVENT_STREAM = b"text/event-stream"

logger = logging.getLogger(__name__)


class Phase(Enum):
    HELD = "held"  # nothing is sent yet
    OPEN = "open"  # the head is sent, what comes passes
    SHAPING = "shaping"  # an error response, gathered to be reshaped
    CLOSED = "closed"  # all is sent, what comes is dropped


class Answer:
    """Stands in for `send` under the front half.

    Nothing is sent before the first byte of the body, so that a request that fails until
    then gets an HTTP status of its own, streaming or not. Afterwards a stream ends by an
    error event. `exchange.error` takes the place of whatever else is sent.
    """

    def __init__(self, send: Send, exchange: Exchange, dialect: Dialect) -> None:
        self.status = 0
        self._send = send
        self._exchange = exchange
        self._dialect = dialect
        self._phase = Phase.HELD
        self._head: Message | None = None
        self._gathered: list[bytes] = []
        self._last = b""

    @property
    def request_id(self) -> str:
        return self._exchange.request_id

    def send(self, message: Message) -> Awaitable[None]:
        # Not a coroutine: this is on the way of every token.
        if self._phase is Phase.OPEN and self._exchange.error is None:
            self._last = message.get("body", b"")
            return self._send(message)
        return self._send_carefully(message)

    async def fail(self, error: ErrorObject, headers: Headers = ()) -> None:
        """Ends the answer by an error: by status if nothing is sent yet, else by event."""
        if self._phase is Phase.CLOSED:
            return
        was_open, self._phase = self._phase is Phase.OPEN, Phase.CLOSED
        if was_open:
            await self._send_body(self._last_events(error))
        else:
            await self._send_error(error, headers)

    async def show(self, status: int, content_type: bytes, body: bytes) -> None:
        """A whole answer of our own, as it is."""
        self._phase = Phase.CLOSED
        await self._send_whole(status, [(b"content-type", content_type)], body)

    async def finish(self) -> None:
        """The front half has returned; whatever it left out is made up for."""
        if self._phase is Phase.OPEN or self._phase is Phase.CLOSED:
            return
        error = self._exchange.error
        await self.fail(ErrorObject.of(error) if error else INTERNAL)

    async def _send_carefully(self, message: Message) -> None:
        if self._phase is Phase.CLOSED:
            return
        if message["type"] == "http.response.start":
            self._head = message
            self._phase = Phase.SHAPING if message["status"] >= 400 else Phase.HELD
        elif message["type"] != "http.response.body":
            return
        elif self._exchange.error is not None:
            await self.fail(ErrorObject.of(self._exchange.error))
        elif self._phase is Phase.SHAPING:
            await self._shape(message)
        else:
            await self._open(message)

    async def _open(self, message: Message) -> None:
        assert self._head is not None
        head = self._head
        self.status = head["status"]
        self._phase = Phase.OPEN
        self._last = message.get("body", b"")
        head["headers"] = [*head.get("headers", ()), *self._own_headers()]
        await self._send(head)
        await self._send(message)

    async def _shape(self, message: Message) -> None:
        self._gathered.append(message.get("body", b""))
        if message.get("more_body", False) or self._head is None:
            return
        kept = [h for h in self._head.get("headers", ()) if h[0] in (b"retry-after", b"allow")]
        error = ErrorObject.parse(self._head["status"], b"".join(self._gathered))
        await self.fail(error, kept)

    async def _send_error(self, error: ErrorObject, headers: Headers) -> None:
        head = [(b"content-type", b"application/json"), *headers]
        if error.retry_after_seconds is not None:
            head.append((b"retry-after", str(error.retry_after_seconds).encode()))
        await self._send_whole(error.status, head, body_of(error, self._dialect))

    async def _send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        length = (b"content-length", str(len(body)).encode())
        head = [*headers, length, *self._own_headers()]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send_body(body)

    async def _send_body(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _last_events(self, error: ErrorObject) -> bytes:
        headers = self._head["headers"] if self._head else ()
        if not any(k == b"content-type" and v.startswith(EVENT_STREAM) for k, v in headers):
            return b""
        numbers = SEQUENCE_NUMBER.findall(self._last)
        return last_events_of(error, self._dialect, int(numbers[-1]) + 1 if numbers else 0)

    def _own_headers(self) -> Headers:
        request_id = (b"x-request-id", self._exchange.request_id.encode())
        if not self._exchange.route:
            return [request_id]
        return [request_id, (b"x-baton-route", self._exchange.route.encode())]
