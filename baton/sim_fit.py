"""The parameters of a simulated engine out of what was measured of a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
# What is missing in a profile has its default there.
Profile = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Generation:
    """`seconds` between two tokens of each of `num_streams` on one worker, whose contexts
    had `num_context_tokens` tokens each.
    """

    num_streams: int
    num_context_tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """`seconds` to the first token. `exposed_seconds`: between the last layer's end on the prefill
    worker and the last byte sent; `num_bytes` were sent in all.
    """

    num_tokens: int
    seconds: float
    exposed_seconds: float = 0.0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """`overhead_seconds` of each request are not the engine's: HTTP, tokens, network."""

    profile: Profile
    overhead_seconds: float
    chunk_tokens: int

    def generation_seconds(self, measured: Generation) -> float:
        return float(generation_rows([measured])[0] @ self._values(*GENERATION))

    def prompt_seconds(self, measured: Prompt) -> float:
        own = prompt_rows([measured], self.chunk_tokens)[0] @ np.array(
            [*self._values("prefill_token_seconds", "attention_seconds"), self.overhead_seconds]
        )
        return float(own) + num_steps(measured, self.chunk_tokens) * self.profile["step_seconds"]

    def exposed_seconds(self, measured: Prompt, num_layers: int) -> float | None:
        """None if nothing was learned of the network."""
        if "bandwidth" not in self.profile:
            return None
        num_bytes = exposed_bytes(measured, num_layers, self.chunk_tokens)
        return num_bytes / self.profile["bandwidth"] + self.profile["latency_seconds"]

    def _values(self, *names: str) -> Matrix:
        return np.array([self.profile[name] for name in names])


GENERATION = ("step_seconds", "decode_seconds", "context_token_seconds")


def fit(
    generations: Sequence[Generation], prompts: Sequence[Prompt], num_layers: int, chunk_tokens: int
) -> Fit:
    """Least squares of relative errors, with nothing below zero."""
    seconds = np.array([each.seconds for each in generations])
    step, decode, context = solve(generation_rows(generations), seconds)
    steps = np.array([num_steps(each, chunk_tokens) for each in prompts])
    left = np.array([each.seconds for each in prompts]) - steps * step
    prefill, attention, overhead = solve(prompt_rows(prompts, chunk_tokens), left)
    profile = {
        "step_seconds": step,
        "prefill_token_seconds": prefill,
        "attention_seconds": attention,
        "decode_seconds": decode,
        "context_token_seconds": context,
        **fit_network(prompts, num_layers, chunk_tokens),
    }
    return Fit(profile, overhead, chunk_tokens)


def fit_network(prompts: Sequence[Prompt], num_layers: int, chunk_tokens: int) -> dict[str, float]:
    """Empty if nothing was moved, or no slower for more of it.

    Exposed are the last layer of the last chunk, and what comes before any byte.
    """
    moved = [each for each in prompts if each.num_bytes and each.exposed_seconds > 0]
    if not moved or not num_layers:
        return {}
    rows = np.array([[exposed_bytes(each, num_layers, chunk_tokens), 1.0] for each in moved])
    per_byte, latency = solve(rows, np.array([each.exposed_seconds for each in moved]))
    return {"bandwidth": 1 / per_byte, "latency_seconds": latency} if per_byte else {}


def generation_rows(measured: Sequence[Generation]) -> Matrix:
    return np.array([[1.0, e.num_streams, e.num_streams * e.num_context_tokens] for e in measured])


def prompt_rows(measured: Sequence[Prompt], chunk_tokens: int) -> Matrix:
    """The decode worker computes the last token once more."""
    return np.array([[e.num_tokens + 1, e.num_tokens**2 / 2 + e.num_tokens, 1.0] for e in measured])


def num_steps(prompt: Prompt, chunk_tokens: int) -> int:
    """Of the prefill worker, and the decode worker's first."""
    return -(-prompt.num_tokens // chunk_tokens) + 1


def exposed_bytes(prompt: Prompt, num_layers: int, chunk_tokens: int) -> float:
    """The last layer of the last chunk."""
    num_tokens = (prompt.num_tokens - 1) % chunk_tokens + 1
    return prompt.num_bytes / prompt.num_tokens * num_tokens / num_layers


def solve(rows: Matrix, seconds: Matrix) -> list[float]:
    """Non-negative least squares of the relative error, by trying which ones are zero."""
    best, least = [0.0] * rows.shape[1], np.inf
    scaled, ones = rows / seconds[:, None], np.ones(len(seconds))
    for count in range(1, rows.shape[1] + 1):
        for chosen in combinations(range(rows.shape[1]), count):
            part = scaled[:, chosen]
            found = np.linalg.lstsq(part, ones, rcond=None)[0]
            error = float(np.sum((part @ found - ones) ** 2))
            if np.all(found >= 0) and error < least:
                least, best = error, [0.0] * rows.shape[1]
                for index, value in zip(chosen, found, strict=True):
                    best[index] = float(value)
    return best
