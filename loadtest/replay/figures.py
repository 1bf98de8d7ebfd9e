"""Figures of one replay: latencies, throughput, goodput."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.replay.records import Records


@dataclass(frozen=True, slots=True)
class Slo:
    """What a good answer keeps to: TTFT, and the mean time a token after the first."""

    ttft_seconds: float = 2.0
    itl_seconds: float = 0.1


@dataclass(frozen=True, slots=True)
class Quantiles:
    """In seconds."""

    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Quantiles | None:
        """Between two values it interpolates; nan counts as no value. None if there is none."""
        known = values[~np.isnan(values)]
        if not len(known):
            return None
        p50, p90, p99 = np.percentile(known, (50, 90, 99))
        return cls(float(known.mean(dtype=np.float64)), float(p50), float(p90), float(p99))


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies are of whole answers, `itl` of all gaps between events with tokens, `tpot` of
    each answer's mean time a token after the first. Goodput counts failed requests as not good.
    `cached_share`: of prompt tokens, as usage tells.
    """

    num_requests: int
    num_done: int
    errors: Mapping[str, int]
    seconds: float
    ttft: Quantiles | None
    itl: Quantiles | None
    tpot: Quantiles | None
    e2e: Quantiles | None
    late: Quantiles | None
    requests_per_second: float
    prompt_tokens_per_second: float
    output_tokens_per_second: float
    goodput_share: float
    goodput_per_second: float
    cached_share: float | None

    @classmethod
    def of(cls, records: Records, slo: Slo) -> Figures:
        done = records.is_done
        seconds = float((records.sent_at + records.total).max(initial=1e-9))
        num_done, num_good = int(done.sum()), int(is_good(records, slo).sum())
        return cls(
            num_requests=len(records),
            num_done=num_done,
            errors=Counter(records.error[~done].tolist()),
            seconds=seconds,
            ttft=Quantiles.of(records.first[done]),
            itl=Quantiles.of(records.gaps),
            tpot=Quantiles.of(records.gap[done]),
            e2e=Quantiles.of(records.total[done]),
            late=Quantiles.of(records.late),
            requests_per_second=num_done / seconds,
            prompt_tokens_per_second=float(records.num_prompt_tokens[done].sum()) / seconds,
            output_tokens_per_second=float(records.num_tokens.sum()) / seconds,
            goodput_share=num_good / max(1, len(records)),
            goodput_per_second=num_good / seconds,
            cached_share=cached_share(records),
        )


def is_good(records: Records, slo: Slo) -> NDArray[np.bool_]:
    """An answer of one token has no time between tokens, and keeps to it."""
    is_slow = (records.first > slo.ttft_seconds) | (records.gap > slo.itl_seconds)
    good: NDArray[np.bool_] = records.is_done & ~np.isnan(records.first) & ~is_slow
    return good


def cached_share(records: Records) -> float | None:
    """None if no usage told of cached tokens."""
    told = ~np.isnan(records.num_cached_tokens)
    if not told.any():
        return None
    prompt = records.num_prompt_tokens[told].sum()
    return float(records.num_cached_tokens[told].sum() / prompt)
