"""How fast a worker is, learned from what it reports of its work."""

from __future__ import annotations

from dataclasses import dataclass

from proto import worker_pb2

# Weight of the news, when they cover WINDOW_SECONDS of work or more.
LEARNING = 0.3
WINDOW_SECONDS = 0.5


@dataclass(slots=True)
class Rates:
    """None: not known yet. `prefill_tokens`: a second of prefill computes so many;
    `step_seconds`: one decode step, at `step_sequences` sequences; `stall_seconds`: what one
    token of a prompt that is computed beside them adds for running sequences.
    """

    prefill_tokens: float | None = None
    step_seconds: float | None = None
    step_sequences: float = 0.0
    stall_seconds: float | None = None
    _last: worker_pb2.Work | None = None

    def learn(self, work: worker_pb2.Work) -> None:
        """Totals, as reported; what has changed since the last ones is the news."""
        last, self._last = self._last, work
        if last is None:
            last = worker_pb2.Work()
        self._learn_steps(work, last)
        self._learn_stalls(work, last)
        self._learn_prefill(work, last)

    def _learn_prefill(self, work: worker_pb2.Work, last: worker_pb2.Work) -> None:
        seconds = work.prefill_seconds - last.prefill_seconds
        tokens = work.prefill_tokens - last.prefill_tokens
        mixed = work.mixed_prefill_tokens - last.mixed_prefill_tokens
        if mixed and self.stall_seconds is not None:
            seconds += mixed * self.stall_seconds
            tokens += mixed
        if tokens > 0 and seconds > 0:
            self.prefill_tokens = blend(self.prefill_tokens, tokens / seconds, seconds)

    def _learn_steps(self, work: worker_pb2.Work, last: worker_pb2.Work) -> None:
        steps = work.decode_steps - last.decode_steps
        seconds = work.decode_seconds - last.decode_seconds
        if steps > 0 and seconds > 0:
            sequences = (work.decode_tokens - last.decode_tokens) / steps
            self.step_sequences = blend(self.step_sequences or None, sequences, seconds)
            self.step_seconds = blend(self.step_seconds, seconds / steps, seconds)

    def _learn_stalls(self, work: worker_pb2.Work, last: worker_pb2.Work) -> None:
        tokens = work.mixed_prefill_tokens - last.mixed_prefill_tokens
        steps = work.mixed_steps - last.mixed_steps
        seconds = work.mixed_seconds - last.mixed_seconds
        if tokens > 0 and self.step_seconds is not None:
            added = max(0.0, seconds - steps * self.step_seconds)
            self.stall_seconds = blend(self.stall_seconds, added / tokens, seconds)


def blend(known: float | None, news: float, seconds: float) -> float:
    """The more work the news cover, the more they count."""
    if known is None:
        return news
    share = LEARNING * min(1.0, seconds / WINDOW_SECONDS)
    return known + share * (news - known)
