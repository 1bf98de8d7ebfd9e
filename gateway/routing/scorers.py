"""How well each worker would serve a request: a number from 0 to 1 for every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from gateway.routing.fleet_table import FOREIGN_TOKENS, Floats
from gateway.routing.scene import Scene

# Times that differ by less are as good as equal.
EQUAL_SECONDS = 0.001

Scorer = Callable[[Scene], Floats]


def prefix(scene: Scene) -> Floats:
    """The share of the prompt that lies in its prefix cache."""
    share = 1 - scene.uncached_tokens / max(1, scene.query.num_prompt_tokens)
    return within_bounds(share)


def predicted(scene: Scene) -> Floats:
    """Time until it would have computed the prompt: waiting, and what is not cached."""
    return best_over(scene.ready_seconds)


def load(scene: Scene) -> Floats:
    """Prompt tokens that are open on it, those of other gateways guessed."""
    columns = scene.table.columns
    tokens = columns.prefill_tokens + FOREIGN_TOKENS * columns.num_foreign
    score: Floats = 1 / (1 + (tokens + columns.num_legs) / FOREIGN_TOKENS)
    return score


def step(scene: Scene) -> Floats:
    """Time of a decode step, with one sequence more."""
    return best_over(scene.step_seconds)


def headroom(scene: Scene) -> Floats:
    """Share of its KV cache that would be promised to nobody."""
    table = scene.table
    left = table.kv_free_tokens() - scene.query.kv_tokens
    return within_bounds(left / np.maximum(table.columns.kv_tokens, 1))


def pair(scene: Scene) -> Floats:
    """Time from the end of the prefill until its KV would be there, by what the pair has shown."""
    return best_over(scene.late_seconds)


def session(scene: Scene) -> Floats:
    """1 for the workers that had the session's last request."""
    rows = scene.table.rows
    return one_for(scene, *map(rows.get, scene.query.session_workers))


def lora(scene: Scene) -> Floats:
    """1 for workers that had a request with this LoRA adapter lately, or without one, for all."""
    if not scene.query.lora:
        return np.ones(len(scene.table.keys))
    return one_for(scene, *scene.lora_rows)


def pace(scene: Scene) -> Floats:
    """How fast it computes, next to the fastest: a worker that is throttled by heat gets less."""
    rates = scene.table.columns.prefill_rate
    score: Floats = rates / max(float(rates.max()), 1.0)
    return score


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        each.__name__: each
        for each in (prefix, predicted, load, step, headroom, pair, session, lora, pace)
    }
)


def within_bounds(share: Floats) -> Floats:
    score: Floats = np.clip(share, 0.0, 1.0)
    return score


def best_over(seconds: Floats) -> Floats:
    """1 for the least, half of it for twice as long."""
    padded = seconds + EQUAL_SECONDS
    score: Floats = padded.min() / padded
    return score


def one_for(scene: Scene, *rows: int | None) -> Floats:
    score = np.zeros(len(scene.table.keys))
    score[[row for row in rows if row is not None]] = 1.0
    return score
