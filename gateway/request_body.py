"""Reading a request's body within bounds, and handing it on."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from gateway.error_shape import ErrorObject

BODY_SECONDS = 60.0


class BodyRefused(Exception):
    """`error` is what the client is told."""

    def __init__(self, error: ErrorObject) -> None:
        super().__init__(error.message)
        self.error = error


class ClientGone(Exception):
    """It hung up before its request was complete."""


async def read_body(receive: Receive, declared_bytes: int | None, max_bytes: int) -> bytes:
    """Raises BodyRefused or ClientGone. `declared_bytes`: of the Content-Length header."""
    if declared_bytes is not None and declared_bytes > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _collect(receive, max_bytes)
    except TimeoutError:
        message = f"The request body took longer than {BODY_SECONDS:g} seconds."
        raise BodyRefused(ErrorObject(408, message, code="request_timeout")) from None


async def _collect(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    num_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(max_bytes: int) -> BodyRefused:
    message = f"The request body is larger than {max_bytes} bytes."
    return BodyRefused(ErrorObject(413, message, code="request_too_large"))


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings `body` first, and then what comes next on the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
