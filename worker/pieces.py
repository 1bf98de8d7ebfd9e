"""How much of prompts a step may compute beside running answers, so that no gap is too long."""

from __future__ import annotations

# Of a step beside running answers, at least so much is for prompts: they must go on.
LEAST_TOKENS = 16
# Prompt tokens that take less cost nothing.
LEAST_TOKEN_SECONDS = 1e-7
LEARNING = 0.1


class Pieces:
    """Learns from the engine's steps. `goal_seconds`: for the time between two tokens; 0: none."""

    def __init__(self, goal_seconds: float) -> None:
        self._goal_seconds = goal_seconds
        self._decode_seconds: float | None = None
        self._token_seconds: float | None = None

    def note(self, seconds: float, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """What a step computed, and how long that took."""
        if not num_decode_tokens:
            return
        if not num_prefill_tokens:
            self._decode_seconds = learned(self._decode_seconds, seconds)
        elif self._decode_seconds is not None:
            more = max(0.0, seconds - self._decode_seconds) / num_prefill_tokens
            self._token_seconds = learned(self._token_seconds, more)

    @property
    def tokens(self) -> int | None:
        """Of prompts, in one step; None if there is no goal, or nothing is known yet."""
        if not self._goal_seconds or self._decode_seconds is None:
            return None
        if self._token_seconds is None or self._token_seconds < LEAST_TOKEN_SECONDS:
            return None
        left = self._goal_seconds - self._decode_seconds
        return max(LEAST_TOKENS, int(left / self._token_seconds))

    def limits(
        self, most: int, longest: int, num_answers: int, num_prompts: int
    ) -> tuple[int, int]:
        """Tokens of the next step, and of one prompt in it, of `most` and `longest` that it could
        take: so many answers and unfinished prompts run. All answers fit in, wherever they stand
        among those that run.
        """
        piece = self.tokens
        if piece is None or not num_answers:
            return most, longest
        each = max(1, piece // max(1, num_prompts))
        return min(most, num_answers + piece), min(longest, each)


def learned(known: float | None, seen: float) -> float:
    return seen if known is None else known + LEARNING * (seen - known)
