"""What a replay says in the terminal."""

from __future__ import annotations

import json
from dataclasses import replace

from loadtest.replay.report import compare, show
from loadtest.replay.worker_work import work_between
from tests.loadtest.replay.make_result import make_result, untold


def test_a_report_has_all_figures() -> None:
    text = show(make_result())
    assert "Replay at http://127.0.0.1:8000: 20 of 20 requests answered in 10.5 s" in text
    (ttft,) = (line.split() for line in text.splitlines() if line.startswith("TTFT"))
    assert ttft == ["TTFT", "ms", "200.0", "200.0", "280.0", "298.0"]
    assert "throughput: 1.90 requests/s, 190 prompt tokens/s, 19 output tokens/s" in text
    assert "goodput: 100.0 %, 1.90 requests/s (TTFT within 2 s, TPOT within 0.1 s)" in text
    assert "hit rate: 30.0 % of prompt tokens (told by workers); computed 7.0 %" in text
    assert "one pooled cache of 16 blocks of 16 tokens 50.0 %; an endless one 60.0 %" in text
    assert "load spread, busiest worker over the mean: prefill 1.33" in text
    assert "failed" not in text


def test_what_is_not_told_is_said_so() -> None:
    text = show(untold(make_result()))
    assert "hit rate: not told; an endless one 60.0 %" in text
    assert "over the mean: not told" in text


def test_usage_is_not_believed_where_there_are_prefill_workers() -> None:
    silent = work_between([], [{"worker_id": "p", "role": "prefill"}])
    assert replace(make_result(), work=()).hit_rate == 0.4
    assert replace(make_result(), work=silent).hit_rate is None


def test_failures_are_listed() -> None:
    text = show(make_result(error="HTTP 503"))
    assert "15 of 20 requests answered" in text
    assert "failed: 5 x HTTP 503" in text


def test_a_comparison_has_ratios_to_the_first() -> None:
    lines = compare([make_result("prefix"), make_result("rr", slowness=2.0)]).splitlines()
    assert lines[0].split() == ["prefix", "rr"]
    (ttft,) = (line for line in lines if line.startswith("TTFT p50 ms"))
    assert ttft.split() == ["TTFT", "p50", "ms", "200", "400", "(x2.00)"]


def test_json_has_all_figures() -> None:
    content = json.loads(json.dumps(make_result("a").as_json()))
    assert content["figures"]["ttft"]["p50"] == 0.2
    assert content["hit_rate"]["workers"] == 0.3
    assert content["hit_rate"]["usage"] == 0.4
    assert [worker["busy_seconds"] for worker in content["workers"]] == [1.0, 2.0]
