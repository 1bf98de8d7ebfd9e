"""What became of every request, in columns: a run of a million tokens takes a few megabytes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from loadtest.replay.answer import StreamedAnswer
from loadtest.replay.trace import TraceRequest

Column = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Records:
    """One row a request, in no order; `gaps` has one for each two events with tokens, `error`
    is empty where the answer is whole.

    Times are in seconds: `sent_at` since the replay began, `late` since the request was due,
    `first` (TTFT) and `total` since it was sent, `gap` (ITL) is the mean time a token after the
    first. nan: there was none, or the server did not tell.
    """

    sent_at: Column
    late: Column
    first: Column
    total: Column
    gap: Column
    num_prompt_tokens: Column
    num_tokens: Column
    num_cached_tokens: Column
    error: NDArray[np.str_]
    gaps: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sent_at)

    @property
    def is_done(self) -> NDArray[np.bool_]:
        return np.char.equal(self.error, "")

    @classmethod
    def merged(cls, parts: Sequence[Records]) -> Records:
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Recorder:
    """Takes requests as they end; its times are of the monotonic clock."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._rows = array("d")
        self._errors: list[str] = []
        self._gaps = array("f")

    def add(
        self,
        request: TraceRequest,
        times: tuple[float, float, float],
        answer: StreamedAnswer,
        error: str,
    ) -> None:
        """`times`: when it was due, when it was sent, when it ended."""
        due_at, sent_at, ended_at = times
        usage = answer.usage
        details = usage.prompt_tokens_details if usage else None
        cached = details.cached_tokens if details else None
        num_tokens = answer.num_tokens
        spread = answer.last_at - answer.first_at
        self._rows.extend(
            (
                sent_at - self._began_at,
                sent_at - due_at,
                answer.first_at - sent_at if answer.num_events else NAN,
                ended_at - sent_at,
                spread / (num_tokens - 1) if num_tokens > 1 else NAN,
                (usage.prompt_tokens if usage else 0) or request.num_prompt_tokens,
                num_tokens,
                NAN if cached is None else cached,
            )
        )
        self._errors.append(error)
        self._gaps.extend(answer.gaps)

    def records(self) -> Records:
        sent_at, late, first, total, gap, prompt, tokens, cached = (
            np.array(self._rows).reshape(-1, 8).T
        )
        errors = np.array(self._errors, np.str_)
        gaps = np.array(self._gaps, np.float32)
        return Records(sent_at, late, first, total, gap, prompt, tokens, cached, errors, gaps)
