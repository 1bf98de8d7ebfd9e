"""What became of one request: tokens, an error in words, or neither."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from tests.suites.gateway import Gateway
from tests.system.prompts import Prompt


class Verdict(StrEnum):
    RIGHT = "right"
    ERROR = "error"  # said in words, with nothing wrong before it
    WRONG = "wrong tokens"
    BROKEN = "neither an answer nor an error"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`error` is what the gateway said instead of the rest; `seconds` how long all took."""

    prompt: Prompt
    ids: tuple[int, ...]
    error: str
    is_whole: bool
    seconds: float

    def __str__(self) -> str:
        """Without the prompt's tokens."""
        said = f", then {self.error!r}" if self.error else ""
        what = f"{self.prompt.name} of {len(self.prompt.ids)} tokens"
        return f"{what}: {len(self.ids)} tokens in {self.seconds:.1f} s{said}"

    def judge(self, right: tuple[int, ...]) -> Verdict:
        if self.ids != right[: len(self.ids)]:
            return Verdict.WRONG
        if self.error:
            return Verdict.ERROR
        is_right = self.is_whole and self.ids == right
        return Verdict.RIGHT if is_right else Verdict.BROKEN

    def problem(
        self, right: tuple[int, ...], limit_seconds: float, *, allows_errors: bool
    ) -> str | None:
        """What must not be, in words; None if all is well."""
        verdict = self.judge(right)
        is_well = verdict is Verdict.RIGHT or (verdict is Verdict.ERROR and allows_errors)
        if not is_well:
            return f"{verdict}: {self}"
        return f"too late: {self}" if self.seconds > limit_seconds else None


def ask(http: httpx.Client, gateway: Gateway, prompt: Prompt, *, stream: bool = False) -> Outcome:
    """Asks, and waits for the end however it comes."""
    body = gateway.body(prompt, stream=stream)
    started_at = time.monotonic()
    ids: list[int] = []
    error, is_whole = "", False
    try:
        with http.stream("POST", gateway.completions, json=body) as response:
            for event in events_of(response):
                error = error or message_of(event)
                for choice in event.get("choices") or ():
                    ids += choice.get("token_ids") or ()
                    is_whole = is_whole or bool(choice.get("finish_reason"))
    except (httpx.HTTPError, ValueError):
        is_whole = False
    return Outcome(prompt, tuple(ids), error, is_whole, time.monotonic() - started_at)


def events_of(response: httpx.Response) -> Iterator[Mapping[str, Any]]:
    """Those of a stream, or the one answer. Raises ValueError if they are not JSON."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        yield json.loads(response.read())
        return
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def message_of(event: Mapping[str, Any]) -> str:
    return str((event.get("error") or {}).get("message") or "")
