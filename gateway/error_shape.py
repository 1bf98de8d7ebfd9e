"""Errors as OpenAI's and Anthropic's SDKs understand them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from gateway.errors import RequestError

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Dialect(Enum):
    """Whose error objects, and whose stream events, a route speaks."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """`kind` is the object's "type"."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | int | None = None
    param: str | None = None
    retry_after_seconds: int | None = None

    @classmethod
    def of(cls, error: RequestError) -> ErrorObject:
        return cls(
            error.status,
            str(error),
            error.kind,
            error.code,
            retry_after_seconds=error.retry_after_seconds,
        )

    @classmethod
    def parse(cls, status: int, body: bytes) -> ErrorObject:
        """What some part of the front half answered, whatever its shape."""
        found = _json_object(body)
        error = found.get("error", found)
        if not isinstance(error, Mapping):
            error = {"message": error}
        message = error.get("message") or error.get("detail") or HTTPStatus(status).phrase
        return cls(
            status,
            message if isinstance(message, str) else json.dumps(message),
            str(error.get("type") or HTTPStatus(status).phrase),
            error.get("code", status),
            error.get("param"),
        )


INTERNAL = ErrorObject(500, "The gateway failed to answer.", "server_error", "internal_error")


def body_of(error: ErrorObject, dialect: Dialect) -> bytes:
    """The JSON body of an error response."""
    if dialect is Dialect.ANTHROPIC:
        return json.dumps({"type": "error", "error": _anthropic(error)}).encode()
    return json.dumps({"error": _openai(error)}).encode()


def last_events_of(error: ErrorObject, dialect: Dialect, sequence_number: int = 0) -> bytes:
    """The server-sent events that end a stream by an error."""
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + body_of(error, dialect) + b"\n\n"
    if dialect is Dialect.RESPONSES:
        event = {
            "type": "error",
            "code": str(error.code),
            "message": error.message,
            "param": error.param,
            "sequence_number": sequence_number,
        }
        return b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"
    return b"data: " + body_of(error, dialect) + b"\n\ndata: [DONE]\n\n"


def _openai(error: ErrorObject) -> dict[str, Any]:
    return {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    }


def _anthropic(error: ErrorObject) -> dict[str, Any]:
    kind = ANTHROPIC_TYPES.get(error.status, "api_error")
    return {"type": kind, "message": error.message}


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {"message": body.decode(errors="replace")[:500]}
    return found if isinstance(found, Mapping) else {"message": found}
