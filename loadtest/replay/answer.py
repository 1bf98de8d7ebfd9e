"""One streamed completion as it arrives: times, tokens, usage."""

from __future__ import annotations

import re
from array import array
from time import monotonic

import msgspec

PREFIX = b"data: "
END = b"[DONE]"
ERROR_BYTES = 1000
KIND_CHARACTERS = 80
# Ids, addresses, lengths: what makes one failure differ from the next of its kind.
PARTICULAR = re.compile(r"\b[\w.:-]*\d[\w.:-]*\b")


class Choice(msgspec.Struct, gc=False):
    text: str = ""
    token_ids: list[int] | None = None


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class ErrorObject(msgspec.Struct, gc=False):
    message: str = ""


class Event(msgspec.Struct, gc=False):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: ErrorObject | None = None


DECODER = msgspec.json.Decoder(Event)


def message_in(body: bytes) -> str:
    """Of an error's JSON; the body itself if it is something else."""
    try:
        event = DECODER.decode(body)
    except msgspec.MsgspecError:
        event = Event()
    return event.error.message if event.error else body.decode(errors="replace")


def kind_of(message: str) -> str:
    """One short line without what differs from one failure to the next."""
    return " ".join(PARTICULAR.sub("#", message).split())[:KIND_CHARACTERS]


class StreamedAnswer:
    """Takes the pieces of a body. Times are of the monotonic clock, gaps in seconds between
    events with tokens.
    """

    def __init__(self) -> None:
        self.first_at = 0.0
        self.last_at = 0.0
        self.gaps = array("f")
        self.token_ids: list[int] = []
        self.usage: Usage | None = None
        self.error: str = ""
        self.is_complete = False
        self._rest = b""

    def feed(self, status: int, body: bytes) -> None:
        if status != 200:
            self._rest = (self._rest + body)[:ERROR_BYTES]
            self.error = f"HTTP {status}: {kind_of(message_in(self._rest))}"
            return
        now = monotonic()
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            if line.startswith(PREFIX):
                self._take(line[len(PREFIX) :].strip(), now)

    @property
    def num_events(self) -> int:
        return len(self.gaps) + 1 if self.first_at else 0

    @property
    def num_tokens(self) -> int:
        """As the server counts; events if it does not."""
        told = self.usage.completion_tokens if self.usage else None
        return told if told is not None else len(self.token_ids) or self.num_events

    def _take(self, data: bytes, now: float) -> None:
        if data == END:
            self.is_complete = True
            return
        try:
            event = DECODER.decode(data)
        except msgspec.MsgspecError:
            self.error = "event is not JSON as expected"
            return
        if event.error is not None:
            self.error = f"error event: {kind_of(event.error.message)}"
        elif event.choices:
            self._time(now)
            for choice in event.choices:
                self.token_ids += choice.token_ids or ()
        if event.usage is not None:
            self.usage = event.usage

    def _time(self, now: float) -> None:
        if self.first_at:
            self.gaps.append(now - self.last_at)
        else:
            self.first_at = now
        self.last_at = now
