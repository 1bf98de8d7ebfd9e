"""How well each of those that may be chosen would serve a request: numbers from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from gateway.routing.columns import Floats
from gateway.routing.fleet_table import FOREIGN_TOKENS
from gateway.routing.pickers import Rows
from gateway.routing.scene import Scene

# Times that differ by less are as good as equal.
EQUAL_SECONDS = 0.001

# Takes the rows of the candidates, one at least, and gives theirs.
Scorer = Callable[[Scene, Rows], Floats]


def prefix(scene: Scene, rows: Rows) -> Floats:
    """The share of the prompt that lies in its prefix cache."""
    share = 1 - scene.uncached_tokens / max(1, scene.query.num_prompt_tokens)
    return within_bounds(share[rows])


def predicted(scene: Scene, rows: Rows) -> Floats:
    """Time until it would have computed the prompt: waiting, and what is not cached."""
    return best_over(scene.ready_seconds[rows])


def load(scene: Scene, rows: Rows) -> Floats:
    """Prompt tokens that are open on it, those of other gateways guessed."""
    columns = scene.table.columns
    tokens = columns.prefill_tokens + FOREIGN_TOKENS * columns.num_foreign + columns.num_legs
    score: Floats = 1 / (1 + tokens[rows] / FOREIGN_TOKENS)
    return score


def idle(scene: Scene, rows: Rows) -> Floats:
    """How few requests it has: one fewer tells where there are few."""
    columns = scene.table.columns
    score: Floats = 1 / (1 + columns.num_legs[rows] + columns.num_foreign[rows])
    return score


def step(scene: Scene, rows: Rows) -> Floats:
    """Time of a decode step, with one sequence more."""
    return best_over(scene.step_seconds[rows])


def headroom(scene: Scene, rows: Rows) -> Floats:
    """Share of its KV cache that would be promised to nobody."""
    table = scene.table
    left = table.kv_free_tokens() - scene.query.kv_tokens
    share = left / np.maximum(table.columns.kv_tokens, 1)
    return within_bounds(share[rows])


def pair(scene: Scene, rows: Rows) -> Floats:
    """Time from the end of the prefill until its KV would be there, by what the pair has shown."""
    return best_over(scene.late_seconds[rows])


def session(scene: Scene, rows: Rows) -> Floats:
    """1 for the workers that had the session's last request."""
    found = map(scene.table.rows.get, scene.query.session_workers)
    return one_for(rows, [row for row in found if row is not None])


def lora(scene: Scene, rows: Rows) -> Floats:
    """1 for workers that had a request with this LoRA adapter lately, or without one, for all."""
    if not scene.query.lora:
        return np.ones(len(rows))
    return one_for(rows, scene.lora_rows)


def pace(scene: Scene, rows: Rows) -> Floats:
    """How fast it computes, next to the fastest: a worker that is throttled by heat gets less."""
    return best_over(scene.table.columns.prefill_token[rows], padding=0.0)


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        each.__name__: each
        for each in (prefix, predicted, load, idle, step, headroom, pair, session, lora, pace)
    }
)


def within_bounds(share: Floats) -> Floats:
    score: Floats = np.clip(share, 0.0, 1.0)
    return score


def best_over(seconds: Floats, padding: float = EQUAL_SECONDS) -> Floats:
    """1 for the least, half of it for twice as long; what is within `padding` is nearly equal."""
    padded = seconds + padding
    score: Floats = padded.min() / padded
    return score


def one_for(rows: Rows, found: Sequence[int]) -> Floats:
    score = np.zeros(len(rows))
    for row in found:
        score[rows == row] = 1.0
    return score
