"""Asking a gateway as plain HTTP, where tokens are compared or a connection is cut."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One choice: its tokens, those of its prompt, its text."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    finish_reason: str


def ask(url: str, body: Mapping[str, Any]) -> Answered:
    """POSTs to a completions or chat route, and streams if the body says so."""
    body = {"temperature": 0, "return_token_ids": True, **body}
    with client() as http:
        if not body.get("stream"):
            answer = http.post(url, json=body).raise_for_status().json()
            return gather([answer], [answer["choices"][0]])
        with http.stream("POST", url, json=body) as response:
            response.raise_for_status()
            events = list(sse_events(response.iter_lines()))
            return gather(events, [event["choices"][0] for event in events if event["choices"]])


def client() -> httpx.Client:
    """No proxy: the gateway is on this machine."""
    return httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False)


def gather(answers: Sequence[Mapping[str, Any]], choices: Sequence[Mapping[str, Any]]) -> Answered:
    """From the one answer, or from the events of a stream."""
    prompt = [*answers, *choices]
    prompt_ids = next(x["prompt_token_ids"] for x in prompt if x.get("prompt_token_ids"))
    ids = [token for choice in choices for token in choice.get("token_ids") or ()]
    text = "".join(text_of(choice) for choice in choices)
    return Answered(tuple(prompt_ids), tuple(ids), text, choices[-1]["finish_reason"])


def text_of(choice: Mapping[str, Any]) -> str:
    message = choice.get("message") or choice.get("delta") or {}
    return str(choice.get("text") or message.get("content") or "")


def sse_events(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Raises AssertionError if the stream does not end as it should."""
    is_done = False
    for line in lines:
        if line.startswith("data: "):
            assert not is_done
            is_done = line == "data: [DONE]"
            if not is_done:
                yield json.loads(line.removeprefix("data: "))
    assert is_done, "the stream broke off"


class Caller:
    """A client that may hang up at any time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read_events(self, number: int) -> None:
        """Until so many events of a stream have come."""
        seen = b""
        while seen.count(b"data: ") < number:
            received = self._connection.recv(65536)
            assert received, "the gateway hung up"
            seen += received


@contextmanager
def calling(url: str, body: Mapping[str, Any]) -> Iterator[Caller]:
    """A request under way; leaving the block hangs up."""
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    address = (parts.hostname or "", parts.port or 80)
    with closing(socket.create_connection(address, timeout=PATIENCE_SECONDS)) as connection:
        connection.sendall(head.encode() + content)
        yield Caller(connection)
