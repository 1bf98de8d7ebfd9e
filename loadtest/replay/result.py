"""One replay's outcome, and how it goes into JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.replay.figures import Figures, Slo
from loadtest.replay.pooled_cache import PooledHits
from loadtest.replay.records import Records
from loadtest.replay.worker_work import (
    WorkerWork,
    counted_share,
    has_prefill,
    load_spreads,
    num_computed_tokens,
)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`name` tells runs of one comparison apart."""

    name: str
    url: str
    figures: Figures
    slo: Slo
    pooled: PooledHits
    work: Sequence[WorkerWork]
    records: Records

    @property
    def hit_rate(self) -> float | None:
        """As the workers count, or as usage tells: but with prefill workers, usage counts as
        cached what a decode worker got from them.
        """
        counted = counted_share(self.work)
        if counted is not None:
            return counted
        return None if has_prefill(self.work) else self.figures.cached_share

    @property
    def hit_source(self) -> str:
        return "usage" if counted_share(self.work) is None else "workers"

    @property
    def computed_share(self) -> float | None:
        """Prompt tokens that any worker computed, of those sent: a prompt that was computed twice
        counts twice.
        """
        computed = num_computed_tokens(self.work)
        sent = float(self.records.num_prompt_tokens.sum())
        return None if computed is None or not sent else computed / sent

    @property
    def spreads(self) -> Mapping[str, float]:
        return load_spreads(self.work)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "url": self.url,
            "slo": dataclasses.asdict(self.slo),
            "figures": dataclasses.asdict(self.figures),
            "hit_rate": {
                "workers": counted_share(self.work),
                "usage": self.figures.cached_share,
                "pooled": dataclasses.asdict(self.pooled),
            },
            "computed_share": self.computed_share,
            "load_spread": dict(self.spreads),
            "workers": [dataclasses.asdict(each) for each in self.work],
        }
