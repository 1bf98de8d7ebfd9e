"""The figures of the slow link."""

from __future__ import annotations

import pytest

from tests.suites.link_study import PULL, STREAMING, Row, Setting, Study
from tests.suites.sample import Sample, medians

FREE, SLOW = Setting(None, 0.1), Setting(80e6, 4.0)


def sample(prefill: float, first_token: float, step: float = 0.1) -> Sample:
    return Sample(prefill, first_token, step)


def test_what_a_transfer_adds() -> None:
    found = sample(4.0, 6.1)
    assert found.exposed_seconds == pytest.approx(2.0)
    assert found.ready_seconds == pytest.approx(6.0)


def test_medians_are_of_each_time_by_itself() -> None:
    samples = [sample(1, 9, 0.1), sample(2, 7, 0.3), sample(3, 8, 0.2)]
    assert medians(samples) == Sample(2, 8, 0.2)


def test_the_worst_of_streaming_is_looked_for_where_the_link_is_limited() -> None:
    rows = (
        Row(FREE, STREAMING, (sample(4, 5.1), sample(4, 5.1), sample(9, 9.1))),
        Row(SLOW, STREAMING, (sample(4, 4.5),)),
        Row(SLOW, PULL, (sample(4, 8.1),)),
    )
    assert Study(2048, 1, rows).worst_streaming() == pytest.approx(1.1)


def test_a_prefill_that_sending_slows_down_counts() -> None:
    rows = (Row(FREE, STREAMING, (sample(4, 4.1),)), Row(SLOW, STREAMING, (sample(6, 6.1),)))
    assert Study(2048, 1, rows).worst_streaming() == pytest.approx(1.5)


def test_the_table_goes_from_fast_to_slow() -> None:
    rows = (Row(SLOW, PULL, (sample(5, 9.1),)), Row(FREE, PULL, (sample(4, 4.1),)))
    title, _, first, second = Study(2048, 47_185_920, rows).show().splitlines()
    assert title == "2048 tokens, 47.2 MB of KV, medians of 1"
    assert first.startswith("no limit") and second.startswith("80 Mbit/s")
    assert "+4000 ms" in second and second.endswith("2.250")
