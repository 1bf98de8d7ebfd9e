"""Figures of a few records that can be counted by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from loadtest.replay.figures import Figures, Slo
from loadtest.replay.records import NAN, Records


def make_records(*rows: tuple[float, float, float, float, str]) -> Records:
    """Each row: when sent, TTFT, total, mean gap, error. Ten prompt tokens, five of an answer."""
    sent_at, first, total, gap, error = zip(*rows, strict=True)
    size = len(rows)
    return Records(
        sent_at=np.array(sent_at, np.float64),
        late=np.zeros(size),
        first=np.array(first, np.float64),
        total=np.array(total, np.float64),
        gap=np.array(gap, np.float64),
        num_prompt_tokens=np.full(size, 10.0),
        num_tokens=np.full(size, 5.0),
        num_cached_tokens=np.full(size, NAN),
        error=np.array(error, np.str_),
        gaps=np.array([0.1, 0.3], np.float32),
    )


RECORDS = make_records(
    (0.0, 1.0, 2.0, 0.05, ""),
    (1.0, 3.0, 4.0, 0.05, ""),
    (2.0, 1.0, 4.0, 0.50, ""),
    (3.0, 1.0, 7.0, NAN, ""),
    (4.0, NAN, 1.0, NAN, "timeout"),
)


def test_goodput_is_of_all_requests() -> None:
    figures = Figures.of(RECORDS, Slo(2.0, 0.1))
    assert (figures.num_requests, figures.num_done, figures.seconds) == (5, 4, 10.0)
    assert (figures.goodput_share, figures.goodput_per_second) == (0.4, 0.2)
    assert figures.errors == {"timeout": 1}


def test_limits_are_inclusive() -> None:
    assert Figures.of(RECORDS, Slo(3.0, 0.5)).goodput_share == 0.8
    assert Figures.of(RECORDS, Slo(0.9, 0.5)).goodput_share == 0.0


def test_rates_and_latencies() -> None:
    figures = Figures.of(RECORDS, Slo())
    assert (figures.requests_per_second, figures.prompt_tokens_per_second) == (0.4, 4.0)
    assert figures.output_tokens_per_second == 2.5
    assert figures.ttft is not None
    assert asdict(figures.ttft) == pytest.approx({"mean": 1.5, "p50": 1, "p90": 2.4, "p99": 2.94})
    assert figures.itl is not None
    assert figures.itl.p50 == pytest.approx(0.2)
    assert figures.cached_share is None


def test_cached_share_is_of_what_was_told() -> None:
    told = replace(RECORDS, num_cached_tokens=np.array([4, 8, NAN, NAN, NAN]))
    assert Figures.of(told, Slo()).cached_share == pytest.approx(0.6)


def test_nothing_answered_is_no_latency() -> None:
    figures = Figures.of(make_records((0.0, NAN, 1.0, NAN, "no connection")), Slo())
    assert (figures.ttft, figures.e2e, figures.goodput_share) == (None, None, 0.0)


def test_records_merge() -> None:
    merged = Records.merged([RECORDS, RECORDS])
    assert (len(merged), len(merged.gaps), int(merged.is_done.sum())) == (10, 4, 8)
