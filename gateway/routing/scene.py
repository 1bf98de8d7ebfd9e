"""What a decision looks at: one request, the fleet as it is now, and what is settled already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gateway.routing.columns import Floats
from gateway.routing.fleet_table import FleetTable
from gateway.routing.pair_table import PairTable


@dataclass(frozen=True, slots=True)
class Query:
    """One request. `cached` and `cached_below`: tokens of its prompt in each row's prefix cache,
    on the device, and on any tier. `kv_tokens`: room that it needs where it is decoded.
    """

    num_prompt_tokens: int
    kv_tokens: int
    cached: Floats = field(repr=False)
    cached_below: Floats = field(repr=False)
    can_hand_off: bool = True
    session_workers: tuple[str, ...] = ()
    lora: str = ""

    def forget(self, rows: Sequence[int]) -> None:
        """These are other workers' now."""
        self.cached[rows] = self.cached_below[rows] = 0.0


# Loading a block from host memory or disk costs about this share of computing it.
RELOAD_SHARE = 0.1


@dataclass(frozen=True)
class Scene:
    """`source`: the row whose KV the decode worker will take; None where the prompt is computed
    by the worker that is looked for.
    """

    query: Query
    table: FleetTable
    pairs: PairTable
    now: float
    source: int | None = None
    source_seconds: float = 0.0
    lora_rows: tuple[int, ...] = ()

    @cached_property
    def uncached_tokens(self) -> Floats:
        """What each would have to compute. The last token always is."""
        query = self.query
        below = np.maximum(query.cached_below - query.cached, 0.0)
        uncached = query.num_prompt_tokens - query.cached - (1 - RELOAD_SHARE) * below
        tokens: Floats = np.maximum(uncached, 1.0)
        return tokens

    @cached_property
    def compute_seconds(self) -> Floats:
        """Of the prompt, on each worker; beside its running sequences where it has some."""
        columns = self.table.columns
        seconds = self.table.prefill_seconds(self.uncached_tokens)
        is_beside = columns.can_decode & (columns.num_legs > columns.num_starting)
        num_steps = np.ceil(self.uncached_tokens / self.piece_tokens)
        beside = self.uncached_tokens * columns.stall_seconds + num_steps * self.step_seconds
        found: Floats = np.where(is_beside, np.maximum(seconds, beside), seconds)
        return found

    @cached_property
    def wait_seconds(self) -> Floats:
        """Until each would begin: of what waits in this gateway, the shorter ones go first."""
        columns = self.table.columns
        ahead = np.minimum(columns.queued_seconds, columns.num_queued * self.compute_seconds)
        waits: Floats = self.table.wait_seconds(self.now) + ahead
        return waits

    @cached_property
    def ready_seconds(self) -> Floats:
        """Until each would have the prompt's KV by computing it."""
        return self.wait_seconds + self.compute_seconds

    @cached_property
    def step_seconds(self) -> Floats:
        """Of each worker's next tokens, with one sequence more."""
        columns = self.table.columns
        return self.table.step_seconds(columns.num_legs + columns.num_foreign + 1)

    @cached_property
    def piece_tokens(self) -> Floats:
        """Of a prompt, in each step beside running answers."""
        return self.table.piece_tokens(self.step_seconds)

    @cached_property
    def late_seconds(self) -> Floats:
        """After the prefill, until each would have the KV from `source`."""
        if self.source is None:
            return np.zeros(len(self.table.keys))
        per_token = self.table.facts(self.source).layout.bytes_per_token
        lacking = np.maximum(self.query.num_prompt_tokens - self.query.cached, 0.0)
        return self.pairs.late_seconds(self.source, lacking * per_token, self.source_seconds)
