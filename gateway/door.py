"""The way in: every request passes here, and every answer leaves in a shape that SDKs know.

A plain ASGI application around the front half's. Per chunk of a stream it costs one call.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.answer import Answer
from gateway.error_shape import INTERNAL, ErrorObject
from gateway.exchange import Exchange, current_exchange
from gateway.request_body import BodyRefused, ClientGone, read_body, replay
from gateway.routes import Refusal, Route, find

# What may stand in a header, a log line and an engine's request id.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

SESSION_HEADER = b"x-session-id"
DEBUG_HEADER = b"x-baton-debug"
# OpenAI's and Anthropic's SDKs say so how long they wait.
TIMEOUT_HEADERS = (b"x-stainless-read-timeout", b"x-stainless-timeout")
MAX_WAIT_SECONDS = 86_400.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of our own."""

    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"

    @classmethod
    def of(cls, content: object, status: int = 200) -> Page:
        return cls(json.dumps(content).encode(), status)


# Takes the rest of the path and the query; an ErrorObject is a refusal.
MakePage = Callable[[str, Mapping[str, list[str]]], Awaitable[Page | ErrorObject]]


class Door:
    """`pages` are by path, as in routes.PAGES; `count` is told of each answer."""

    def __init__(
        self,
        front: ASGIApp,
        pages: Mapping[str, MakePage],
        max_body_bytes: int,
        count: Callable[[str, int], None] = lambda route, status: None,
    ) -> None:
        self._front = front
        self._pages = pages
        self._max_body_bytes = max_body_bytes
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._front(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = find(scope["method"], scope["path"])
        headers = dict(scope["headers"])
        exchange = exchange_of(headers)
        answer = Answer(send, exchange, found.dialect)
        token = current_exchange.set(exchange)
        try:
            await self._answer(found, headers, scope, receive, answer)
            await answer.finish()
        except ClientGone:
            pass
        except BodyRefused as refused:
            await answer.fail(refused.error)
        except Exception as error:
            await self._fail(answer, exchange, error)
        finally:
            current_exchange.reset(token)
            self._count(found.label if isinstance(found, Route) else "refused", answer.status)

    async def _answer(
        self,
        found: Route | Refusal,
        headers: Mapping[bytes, bytes],
        scope: Scope,
        receive: Receive,
        answer: Answer,
    ) -> None:
        if isinstance(found, Refusal):
            allow = [(b"allow", ", ".join(found.allow).encode())] if found.allow else []
            await answer.fail(found.error, allow)
        elif found.page is not None:
            await self._show(found, scope, answer)
        else:
            body = await read_body(receive, declared_bytes(headers), self._max_body_bytes)
            scope = front_scope(scope, answer.request_id)
            await self._front(scope, replay(body, receive), answer.send)

    async def _show(self, route: Route, scope: Scope, answer: Answer) -> None:
        query = parse_qs(scope.get("query_string", b"").decode(errors="replace"))
        page = await self._pages[route.page or ""](route.argument, query)
        if isinstance(page, ErrorObject):
            await answer.fail(page)
        else:
            await answer.show(page.status, page.content_type, page.body)

    async def _fail(self, answer: Answer, exchange: Exchange, error: Exception) -> None:
        if exchange.error is None:
            # Frames without values: the message may hold what the client sent.
            frames = "".join(traceback.format_tb(error.__traceback__))
            kind = type(error).__name__
            logger.error("request %s failed by %s:\n%s", exchange.request_id, kind, frames)
        await answer.fail(ErrorObject.of(exchange.error) if exchange.error else INTERNAL)


def exchange_of(headers: Mapping[bytes, bytes]) -> Exchange:
    session = headers.get(SESSION_HEADER, b"").decode("ascii", errors="replace")
    return Exchange(
        request_id_of(headers),
        session=session if REQUEST_ID.fullmatch(session) else "",
        wait_seconds=next(
            filter(None, (seconds_of(headers.get(h, b"")) for h in TIMEOUT_HEADERS)), None
        ),
        wants_route=headers.get(DEBUG_HEADER, b"0").strip() not in (b"", b"0", b"false"),
    )


def seconds_of(value: bytes) -> float | None:
    """None for what is no sensible number of seconds."""
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < MAX_WAIT_SECONDS else None


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's own, if it can stand anywhere, else a new one."""
    given = headers.get(b"x-request-id", b"").decode("ascii", errors="replace")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def declared_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else None


def front_scope(scope: Scope, request_id: str) -> Scope:
    """What the front half sees: our request id, no trailing slash, and no HEAD."""
    headers = [header for header in scope["headers"] if header[0] != b"x-request-id"]
    headers.append((b"x-request-id", request_id.encode()))
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "method": method, "headers": headers, "path": scope["path"].rstrip("/")}
