"""All that a client process needs to know; it is sent to it as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from loadtest.replay.prompt_maker import VOCABULARY
from loadtest.replay.trace import TraceRequest

Conversation = Sequence[TraceRequest]


@dataclass(frozen=True, slots=True)
class Workload:
    """`check`: a name for `load_check`, or empty. `max_open` bounds the requests under way."""

    url: str
    model: str
    requests: Sequence[TraceRequest]
    vocabulary: range = VOCABULARY
    seed: int = 0
    timeout_seconds: float = 300.0
    max_open: int = 10_000
    check: str = ""

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def wants_token_ids(self) -> bool:
        """They stand in later prompts, or are checked."""
        return bool(self.check) or any(request.session for request in self.requests)

    def split(self, num_parts: int) -> list[Workload]:
        """Whole conversations, dealt in turn; parts without one are left out."""
        talks = conversations(self.requests)
        shares = [talks[part::num_parts] for part in range(num_parts)]
        return [
            replace(
                self,
                requests=[request for talk in share for request in talk],
                max_open=max(1, self.max_open // num_parts),
            )
            for share in shares
            if share
        ]


def conversations(requests: Iterable[TraceRequest]) -> list[Conversation]:
    """What must go one after another, in the order of its first request."""
    talks: dict[str | int, list[TraceRequest]] = {}
    for number, request in enumerate(requests):
        talks.setdefault(request.session or number, []).append(request)
    return list(talks.values())
