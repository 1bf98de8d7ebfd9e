"""What is learned from requests: about pairs, about both ways, about the length of answers."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.request_life import Handoff, RequestLife
from gateway.routing.decider import Verdict
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.way import Way

# What went so teaches something of its way.
HANDOFFS = {Way.REMOTE: Handoff.MOVED, Way.LOCAL: Handoff.LOCAL}


@dataclass(frozen=True, slots=True)
class Experience:
    dispatcher: Dispatcher

    def first_token(self, life: RequestLife) -> None:
        """The prompt's KV is where it is decoded."""
        if life.verdict is not None and life.handoff is HANDOFFS[life.verdict.way]:
            self._way(life, life.verdict)
        if life.handoff is Handoff.MOVED:
            self._pair(life)

    def finished(self, life: RequestLife, now: float) -> None:
        """The whole answer is there."""
        if life.request.max_tokens is None:
            self.dispatcher.lengths.observe(life.num_outputs)
        if life.verdict is not None and life.first_token_at is not None and life.num_outputs > 1:
            seconds = (now - life.first_token_at) / (life.num_outputs - 1)
            decider = self.dispatcher.router.decider
            decider.observe_answer(life.verdict, life.num_outputs, seconds)

    def _way(self, life: RequestLife, verdict: Verdict) -> None:
        if life.first_token_seconds is not None and life.submitted_at is not None:
            waited_seconds = life.submitted_at - life.arrived_at
            decider = self.dispatcher.router.decider
            decider.observe(verdict, life.first_token_seconds, waited_seconds)

    def _pair(self, life: RequestLife) -> None:
        table = self.dispatcher.table
        source = table.rows.get(life.source or "")
        target = table.rows.get(life.decode_worker or "")
        times = (life.submitted_at, life.prefill_ended_at, life.first_token_at)
        if source is None or target is None or None in times:
            return
        submitted_at, ended_at, first_at = (each or 0.0 for each in times)
        # The last token of the prompt is computed where it is decoded, after the step that runs.
        columns = table.columns
        step = float(table.step_seconds(columns.num_legs + columns.num_foreign)[target])
        late = first_at - ended_at - 2 * step
        num_bytes = life.costs.moved_tokens * table.facts(source).layout.bytes_per_token
        self.dispatcher.router.pairs.observe(
            source, target, num_bytes, ended_at - submitted_at, late
        )
