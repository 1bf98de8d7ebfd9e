"""Pages about decisions: why a request went where it went, whether hand-off pays, the index."""

from __future__ import annotations

from math import isfinite
from typing import Any

from gateway.block_audit import BlockAudit
from gateway.door import MakePage, Page
from gateway.error_shape import ErrorObject
from gateway.index_report import IndexReport
from gateway.pages import Query
from gateway.routing.decider import Seen
from gateway.routing.dispatcher import Dispatcher

MAX_SHOWN = 20


class FleetPages:
    """Each page takes the rest of its path and the query."""

    def __init__(self, dispatcher: Dispatcher, index: IndexReport, audit: BlockAudit) -> None:
        self._dispatcher = dispatcher
        self._index = index
        self._audit = audit

    def by_path(self) -> dict[str, MakePage]:
        return {
            "/fleet/explain": self.explain,
            "/fleet/decision": self.decision,
            "/fleet/index": self.index,
        }

    async def explain(self, rest: str, query: Query) -> Page | ErrorObject:
        """Of one request (`request_id`), or of the last ones."""
        name = query.get("request_id", [""])[-1]
        explanations = self._dispatcher.explanations
        if not name:
            return Page.of({"requests": explanations.latest(MAX_SHOWN)})
        if found := explanations.get(name):
            return Page.of(found.content)
        message = "Nothing is known of that request: it is older, went elsewhere, or still waits."
        return ErrorObject(404, message, "NotFoundError", "unknown_request", "request_id")

    async def decision(self, rest: str, query: Query) -> Page:
        """What was predicted and measured of both ways, and what each worker and pair can do."""
        decider = self._dispatcher.router.decider
        return Page.of(
            {
                "disaggregation": decider.mode.value,
                "control_share": decider.control_share,
                "ttft_goal_seconds": decider.slo.ttft_seconds,
                "itl_goal_seconds": decider.slo.itl_seconds,
                "ttft_gain_seconds": decider.gain_seconds(),
                "by_uncached_tokens": {
                    str(size): {
                        way.value: shown(seen, way is decider.usual_way(size))
                        for way, seen in ways.items()
                    }
                    for size, ways in decider.seen.items()
                },
                "num_waiting": self._dispatcher.num_waiting,
                "workers": self._workers(),
                "pairs": self._pairs(),
            }
        )

    async def index(self, rest: str, query: Query) -> Page:
        """With `audit=1`, workers are asked what they really hold."""
        content = await self._index.content()
        if query.get("audit", ["0"])[-1] not in ("0", "false", ""):
            content["audit"] = await self._audit.run()
        return Page.of(content)

    def _workers(self) -> dict[str, dict[str, float | None]]:
        table = self._dispatcher.table
        return {key: self._worker(row) for key, row in table.rows.items()}

    def _worker(self, row: int) -> dict[str, float | None]:
        """None: it has not shown that yet."""
        table, columns = self._dispatcher.table, self._dispatcher.table.columns
        rates = table.rates(row)
        prefills, decodes = rates.prefill.evidence_seconds > 0, rates.decode.evidence_seconds > 0
        token, step = float(columns.prefill_token[row]), float(columns.prefill_step[row])
        return {
            "prefill_tokens_per_second": 1 / token if prefills and token else None,
            "prefill_step_seconds": step if prefills else None,
            "decode_step_seconds": float(columns.decode_step[row]) if decodes else None,
            "decode_sequence_seconds": float(columns.decode_sequence[row]) if decodes else None,
            "stall_seconds_per_token": rates.stall_seconds,
            "num_waiting": int(columns.num_queued[row]),
            "kv_free_tokens": float(table.kv_free_tokens()[row]),
        }

    def _pairs(self) -> list[dict[str, Any]]:
        """Those that are known; without a speed, if their link was never the limit."""
        table, pairs = self._dispatcher.table, self._dispatcher.router.pairs
        return [
            {
                "source": source,
                "target": target,
                "bytes_per_second": rate if isfinite(rate) else None,
            }
            for one, other, rate in pairs.known()
            if (source := table.keys[one]) and (target := table.keys[other])
        ]


def shown(seen: Seen, is_usual: bool) -> dict[str, float | None]:
    return {
        "is_usual": is_usual,
        "num_requests": seen.number,
        "ttft_seconds": seen.ttft_seconds if seen.number else None,
        "itl_seconds": seen.itl_seconds or None,
        "later_than_predicted_seconds": seen.correction_seconds if seen.number else None,
    }
