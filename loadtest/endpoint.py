"""A gateway over HTTP: its models, its metrics, its workers, and timed streams."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

SAMPLE = re.compile(r"^(?P<name>[\w:]+(?:\{.*\})?) (?P<value>\S+)$")


class BadAnswer(Exception):
    """The gateway answered what cannot be measured; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class TimedStream:
    """`arrivals`: when each event with new tokens came, in seconds since the request was sent."""

    arrivals: tuple[float, ...]

    @property
    def first_seconds(self) -> float:
        return self.arrivals[0]

    @property
    def gaps(self) -> tuple[float, ...]:
        """From each event to the next."""
        following = self.arrivals[1:]
        return tuple(b - a for a, b in zip(self.arrivals, following, strict=False))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` is the base, without a path."""

    url: str
    timeout_seconds: float = 300.0

    def model(self) -> str:
        """The first that it serves."""
        return str(self.model_card()["id"])

    def model_card(self) -> Mapping[str, Any]:
        """Of the first model that it serves."""
        card: Mapping[str, Any] = self._get_json("/v1/models")["data"][0]
        return card

    def metrics(self) -> Mapping[str, float]:
        """By name and labels, as they stand on the page."""
        with self._request("GET", "/metrics") as answer:
            found = (SAMPLE.match(line) for line in answer.read().decode().splitlines())
            return {match["name"]: float(match["value"]) for match in found if match}

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """Each freshly asked."""
        workers: Sequence[Mapping[str, Any]] = self._get_json("/fleet/workers?fresh=1")["workers"]
        return workers

    def stream(self, body: Mapping[str, Any]) -> TimedStream:
        """A streamed completion. Raises BadAnswer."""
        started_at = time.perf_counter()
        with self._request("POST", "/v1/completions", {**body, "stream": True}) as answer:
            arrivals = [
                time.perf_counter() - started_at for line in answer if is_token(line, self.url)
            ]
        if not arrivals:
            raise BadAnswer(f"{self.url} streamed no token")
        return TimedStream(tuple(arrivals))

    def _get_json(self, path: str) -> Mapping[str, Any]:
        with self._request("GET", path) as answer:
            found: Mapping[str, Any] = json.load(answer)
            return found

    @contextmanager
    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Iterator[HTTPResponse]:
        parts = urlsplit(self.url)
        address = (parts.hostname or "", parts.port or 80)
        content = json.dumps(body) if body is not None else None
        headers = {"content-type": "application/json"}
        with closing(HTTPConnection(*address, timeout=self.timeout_seconds)) as connection:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                reason = answer.read(300).decode(errors="replace")
                raise BadAnswer(f"{method} {path} of {self.url}: {answer.status} {reason}")
            yield answer


def is_token(line: bytes, url: str) -> bool:
    """Whether a line of a stream brings new tokens. Raises BadAnswer for an error event."""
    if not line.startswith(b"data: {"):
        return False
    event = json.loads(line.removeprefix(b"data: "))
    if "error" in event:
        raise BadAnswer(f"{url}: {event['error'].get('message')}")
    return bool(event["choices"])
