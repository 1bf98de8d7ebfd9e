"""Measures a fleet over HTTP: one thread for each stream."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from urllib.parse import urlsplit

import msgspec

from baton.errors import CannotMeasure
from baton.sim_fit import Generation, Prompt

ANSWER_SECONDS = 600.0
# Ordinary tokens of any vocabulary.
TOKENS = range(1000, 20000)
DATA = b"data: "
END = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Moved:
    sent_bytes: int = 0
    sent_segments: int = 0
    sends_completed: int = 0
    exposed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    transfers: Moved = Moved()


@dataclass(frozen=True, slots=True)
class Worker:
    role: str
    load: Load = Load()


@dataclass(frozen=True, slots=True)
class Fleet:
    workers: tuple[Worker, ...]

    @property
    def num_decode(self) -> int:
        return sum("decode" in worker.role for worker in self.workers)

    def total(self, name: str) -> float:
        moved = (worker.load.transfers for worker in self.workers)
        return float(sum(getattr(each, name) for each in moved))


@dataclass(frozen=True, slots=True)
class Choice:
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Card:
    id: str


@dataclass(frozen=True, slots=True)
class Models:
    data: tuple[Card, ...]


class Probe:
    """Asks a gateway for answers to prompts that it has not seen before."""

    def __init__(self, url: str) -> None:
        """Raises CannotMeasure."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise CannotMeasure(f"--url {url}: http://host:port is expected")
        self._address = parts.hostname, parts.port or 80
        self._random = random.Random()
        cards = msgspec.json.decode(self._get("/v1/models"), type=Models).data
        self._model = cards[0].id

    def fleet(self) -> Fleet:
        return msgspec.json.decode(self._get("/fleet/workers?fresh=1"), type=Fleet)

    def prompt(self, num_tokens: int) -> tuple[Prompt, int]:
        """Its time to the first token, alone; and the segments that its KV came in."""
        before = self.fleet()
        began = time.monotonic()
        times = list(self._stream(num_tokens, 2))
        seconds = times[0][0] - began
        after = self.fleet()

        def moved(name: str) -> float:
            return after.total(name) - before.total(name)

        exposed, num_bytes = moved("exposed_seconds"), round(moved("sent_bytes"))
        return Prompt(num_tokens, seconds, exposed, num_bytes), round(moved("sent_segments"))

    def generation(self, num_streams: int, num_prompt_tokens: int, num_tokens: int) -> Generation:
        """Of so many streams on each decode worker at once, while all of them run."""
        num_all = num_streams * max(1, self.fleet().num_decode)
        with ThreadPoolExecutor(num_all) as threads:
            asked = [
                threads.submit(list, self._stream(num_prompt_tokens, num_tokens))
                for _ in range(num_all)
            ]
            streams = [each.result() for each in asked]
        context = num_prompt_tokens + num_tokens / 2
        return Generation(num_streams, context, seconds_between(streams))

    def _stream(self, num_prompt_tokens: int, num_tokens: int) -> Iterator[tuple[float, int]]:
        """When each chunk came, and how many tokens were in it. Raises CannotMeasure."""
        body = {
            "model": self._model,
            "prompt": self._random.choices(TOKENS, k=num_prompt_tokens),
            "max_tokens": num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_SECONDS)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/completions", msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise CannotMeasure(f"a prompt of {num_prompt_tokens} tokens: HTTP {answer.status}")
            yield from chunks(answer)
        except OSError as error:
            raise CannotMeasure(f"the gateway at {self._where} does not answer: {error}") from error
        finally:
            connection.close()

    def _get(self, path: str) -> bytes:
        """Raises CannotMeasure."""
        connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise CannotMeasure(f"{self._where}{path}: HTTP {answer.status}")
            return answer.read()
        except OSError as error:
            raise CannotMeasure(f"the gateway at {self._where} does not answer: {error}") from error
        finally:
            connection.close()

    @property
    def _where(self) -> str:
        host, port = self._address
        return f"http://{host}:{port}"


def chunks(lines: Iterable[bytes]) -> Iterator[tuple[float, int]]:
    for line in lines:
        if line.startswith(DATA) and not line.startswith(DATA + END):
            chunk = msgspec.json.decode(line[len(DATA) :], type=Chunk)
            if num_tokens := sum(len(choice.token_ids or ()) for choice in chunk.choices):
                yield time.monotonic(), num_tokens


def seconds_between(streams: Sequence[Sequence[tuple[float, int]]]) -> float:
    """Between two tokens of a stream, mostly, while all of them run."""
    began = max(stream[0][0] for stream in streams)
    ended = min(stream[-1][0] for stream in streams)
    gaps = [
        (at - before) / num_tokens
        for stream in streams
        for (before, _), (at, num_tokens) in pairwise(stream)
        if began <= before and at <= ended
    ]
    if not gaps:
        raise CannotMeasure("no streams ran at the same time: ask for fewer of them")
    return median(gaps)
