"""Where a prompt that may begin is decoded: with credit, and leaving room to who waits longest."""

from __future__ import annotations

import numpy as np

from gateway.routing.explanation import Explanation, Explanations
from gateway.routing.lanes import Waiting
from gateway.routing.placement import Placement
from gateway.routing.profile import Choice
from gateway.routing.router import Router
from gateway.routing.scene import Query
from gateway.routing.way import Way

# For who has waited so long for room to be decoded in, room is kept.
PATIENCE_SECONDS = 5.0


class Binder:
    """`explanations` tell why each went where it went."""

    def __init__(self, router: Router, explanations: Explanations) -> None:
        self._router = router
        self._explanations = explanations
        self._patient: Waiting | None = None

    def bind(self, item: Waiting, row: int, now: float) -> Placement | None:
        """With its prompt computed by this worker; None without room where it is decoded."""
        kept = self._kept_for_another(item)
        if item.verdict.way is Way.REMOTE:
            return self._remote(item, row, now, kept)
        return self._local(item, row, kept)

    def note_full(self, item: Waiting, now: float) -> None:
        """It found no room the way it was planned."""
        if now - item.since > PATIENCE_SECONDS:
            oldest = self._patient or item
            self._patient = item if item.since < oldest.since else oldest

    def forget(self, request_id: str) -> None:
        """It does not wait any more."""
        if self._patient and self._patient.request_id == request_id:
            self._patient = None

    def _kept_for_another(self, item: Waiting) -> str:
        """The decode worker with most room is left to who has waited for it too long."""
        patient, table = self._patient, self._router.table
        row = table.rows.get(patient.worker) if patient else None
        if patient is None or row is None or patient.request_id == item.request_id:
            return ""
        if patient.verdict.way is Way.LOCAL:
            return patient.worker
        holds_it = table.columns.kv_tokens >= patient.query.num_prompt_tokens
        may = table.partners(row) & holds_it
        free = np.where(may, table.kv_free_tokens(), -np.inf)
        return table.keys[int(np.argmax(free))] if may.any() else ""

    def _remote(self, item: Waiting, row: int, now: float, kept: str) -> Placement | None:
        table = self._router.table
        # Soon said while all are full, and so it is for everybody who waits.
        if not (table.has_credit(item.query.kv_tokens) & table.columns.can_decode).any():
            return None
        choice = self._router.decode_for(item.query, row, item.seconds, now, without=kept)
        return self._placement(item, row, choice.row, choice) if choice else None

    def _local(self, item: Waiting, row: int, kept: str) -> Placement | None:
        if self._router.table.keys[row] == kept or not self._router.has_credit(row, item.query):
            return None
        return self._placement(item, row, row, None)

    def _placement(self, item: Waiting, row: int, decode: int, choice: Choice | None) -> Placement:
        table = self._router.table
        explanation = Explanation.of(item, table.keys, row, choice)
        self._explanations.add(explanation, item.request_id)
        return Placement(
            table.facts(decode),
            table.facts(row) if choice else None,
            item.num_tokens,
            item.seconds,
            item.query.kv_tokens,
            moved_tokens(item.query, decode) if choice else 0,
            item.verdict,
        )


def moved_tokens(query: Query, row: int) -> int:
    """What is not cached where it is decoded."""
    return max(0, query.num_prompt_tokens - int(query.cached[row]))
