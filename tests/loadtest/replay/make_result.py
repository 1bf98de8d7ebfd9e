"""A result to report and to draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loadtest.replay.figures import Figures, Slo
from loadtest.replay.pooled_cache import PooledHits
from loadtest.replay.records import Records
from loadtest.replay.result import ReplayResult
from loadtest.replay.worker_work import work_between


def make_records(size: int = 20, slowness: float = 1.0, error: str = "") -> Records:
    return Records(
        sent_at=np.arange(size) / 2,
        late=np.full(size, 0.001),
        first=slowness * np.linspace(0.1, 0.3, size),
        total=slowness * np.full(size, 1.0),
        gap=np.full(size, 0.02),
        num_prompt_tokens=np.full(size, 100.0),
        num_tokens=np.full(size, 10.0),
        num_cached_tokens=np.full(size, 40.0),
        error=np.array([error] * (size // 4) + [""] * (size - size // 4), np.str_),
        gaps=np.full(9 * size, 0.02, np.float32),
    )


def make_result(name: str = "", slowness: float = 1.0, error: str = "") -> ReplayResult:
    records = make_records(slowness=slowness, error=error)
    load = {"num_cached_tokens": 30, "num_computed_tokens": 70, "num_kv_blocks": 8}
    after = [
        {"worker_id": f"prefill-{n}", "role": "prefill", "load": {**load, "busy_seconds": n + 1.0}}
        for n in range(2)
    ]
    return ReplayResult(
        name=name,
        url="http://127.0.0.1:8000",
        figures=Figures.of(records, Slo()),
        slo=Slo(),
        pooled=PooledHits(16, 16, 0.5, 0.6),
        work=work_between([], after),
        records=records,
    )


def untold(result: ReplayResult) -> ReplayResult:
    """The same from a gateway that tells nothing of caches and workers."""
    return replace(
        result,
        work=(),
        figures=replace(result.figures, cached_share=None),
        pooled=PooledHits(None, 16, None, 0.6),
    )
