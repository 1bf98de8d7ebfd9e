"""How fast a worker is, learned from what it reports of its work."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from proto import worker_pb2

# With each window of work, what was learned before counts so much less.
MEMORY = 0.97
# What was found last weighs as much as so many steps.
FOUND_STEPS = 1.0
# Without work, half of what is known about a worker is forgotten in so many seconds.
HALF_LIFE_SECONDS = 60.0
# So many seconds of work make a worker's own figures count as much as those of its like.
TRUSTED_AFTER_SECONDS = 1.0


@dataclass(slots=True)
class StepCosts:
    """Seconds of a step: so many whatever it computes, and so many for each token of it.

    Least squares over windows of work, the older ones counting less (ridge regression towards
    what was found last: windows that are all alike do not tell the two apart).
    """

    per_step: float
    per_token: float
    evidence_seconds: float = 0.0
    _products: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    _results: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def learn(self, num_steps: int, num_tokens: int, seconds: float) -> None:
        """So many steps computed so many tokens in this time."""
        if num_steps <= 0 or num_tokens <= 0 or seconds <= 0:
            return
        window = np.array([num_steps, num_tokens], float)
        # Each step counts alike, in however large windows they are told.
        self._products = MEMORY * self._products + np.outer(window, window) / num_steps
        self._results = MEMORY * self._results + window * seconds / num_steps
        self.evidence_seconds += seconds
        self._solve()

    def forget(self, seconds: float) -> None:
        """So much time has passed."""
        self.evidence_seconds *= 0.5 ** (seconds / HALF_LIFE_SECONDS)

    @property
    def trust(self) -> float:
        """0 to 1."""
        return self.evidence_seconds / (self.evidence_seconds + TRUSTED_AFTER_SECONDS)

    def seconds(self, num_steps: float, num_tokens: float) -> float:
        return num_steps * self.per_step + num_tokens * self.per_token

    def _solve(self) -> None:
        before = np.array([self.per_step, self.per_token])
        # A token's weighs as a step of typical size has it: scales differ by hundreds.
        scale = max(1.0, float(self._products[1, 1]) / max(1e-9, float(self._products[0, 0])))
        ridge = FOUND_STEPS * np.diag([1.0, scale])
        found = np.linalg.solve(self._products + ridge, self._results + ridge @ before)
        per_step, per_token = found.tolist()
        if per_step < 0:
            per_step, per_token = 0.0, self._alone(1)
        elif per_token < 0:
            per_step, per_token = self._alone(0), 0.0
        self.per_step, self.per_token = per_step, per_token

    def _alone(self, which: int) -> float:
        """The best fit without the other one."""
        return float(self._results[which] / max(1e-12, self._products[which, which]))


@dataclass(slots=True)
class Rates:
    """`prefill` and `decode`: steps that compute prompts alone, and next tokens alone;
    `stall_seconds`: what one token of a prompt that is computed beside them adds for running
    sequences, None if it is not known.
    """

    prefill: StepCosts
    decode: StepCosts
    stall_seconds: float | None = None
    _last: worker_pb2.Work | None = None
    _learned_at: float | None = None

    def learn(self, work: worker_pb2.Work, now: float) -> None:
        """Totals, as reported; what has changed since the last ones is the news."""
        if self._learned_at is not None:
            self.prefill.forget(now - self._learned_at)
            self.decode.forget(now - self._learned_at)
        last, self._last, self._learned_at = self._last or worker_pb2.Work(), work, now
        self.prefill.learn(
            work.prefill_steps - last.prefill_steps,
            work.prefill_tokens - last.prefill_tokens,
            work.prefill_seconds - last.prefill_seconds,
        )
        self.decode.learn(
            work.decode_steps - last.decode_steps,
            work.decode_tokens - last.decode_tokens,
            work.decode_seconds - last.decode_seconds,
        )
        self._learn_stalls(work, last)

    def _learn_stalls(self, work: worker_pb2.Work, last: worker_pb2.Work) -> None:
        num_tokens = work.mixed_prefill_tokens - last.mixed_prefill_tokens
        seconds = work.mixed_seconds - last.mixed_seconds
        steps = work.mixed_steps - last.mixed_steps
        if num_tokens <= 0 or seconds <= 0 or steps <= 0:
            return
        without = self.decode.seconds(steps, work.mixed_decode_tokens - last.mixed_decode_tokens)
        stall = max(0.0, seconds - without) / num_tokens
        share = 1 - MEMORY**steps
        known = self.stall_seconds
        self.stall_seconds = stall if known is None else known + share * (stall - known)
