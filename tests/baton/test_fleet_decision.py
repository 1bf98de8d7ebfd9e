from __future__ import annotations

import re
from typing import Any

import pytest

from baton.cli import main
from tests.baton.small_gateway import small_gateway

SEEN = {"num_requests": 12, "ttft_seconds": 0.12, "itl_seconds": 0.035}
DECISION: dict[str, Any] = {
    "disaggregation": "auto",
    "control_share": 0.02,
    "ttft_goal_seconds": 2.0,
    "itl_goal_seconds": 0.2,
    "ttft_gain_seconds": 0.085,
    "by_uncached_tokens": {
        "256": {
            "remote": {**SEEN, "later_than_predicted_seconds": 0.012},
            "local": {**SEEN, "num_requests": 0},
        },
        "4096": {
            "remote": {**SEEN, "later_than_predicted_seconds": -0.2, "is_usual": True},
            "local": {**SEEN, "num_requests": 3, "itl_seconds": None},
        },
    },
    "num_waiting": 3,
    "workers": {
        "prefill-0/a1": {
            "prefill_tokens_per_second": 12345.6,
            "prefill_step_seconds": 0.008,
            "decode_step_seconds": None,
            "decode_sequence_seconds": 0.0005,
            "stall_seconds_per_token": 0.000364,
            "num_waiting": 3,
            "kv_free_tokens": 46464.0,
        },
        "decode-0/b2": {},
    },
    "pairs": [
        {"source": "prefill-0/a1", "target": "gone/c", "bytes_per_second": 1.2e9},
        {"source": "prefill-0/a1", "target": "decode-0/b2", "bytes_per_second": None},
    ],
}


def shown(capsys: pytest.CaptureFixture[str], decision: dict[str, Any]) -> list[str]:
    with small_gateway(decision=decision) as gateway:
        assert main(["fleet", "decision", "--url", gateway.url]) == 0
    return capsys.readouterr().out.splitlines()


def test_both_ways_workers_and_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, DECISION)
    assert lines[0] == (
        "Disaggregation auto, 2.0% for control; goals: TTFT 2 s, ITL 200 ms; 3 waiting"
    )
    assert lines[1] == "Hand-off saves 85 ms of TTFT a request"
    assert lines[3:7] == [
        "uncached tokens  way     usual  requests  TTFT    ITL    later than predicted",
        "up to 256        remote  -      12        120 ms  35 ms  +12 ms",
        "up to 4,096      remote  yes    12        120 ms  35 ms  -200 ms",
        "up to 4,096      local   -      3         120 ms  -      -",
    ]
    assert [re.split("  +", line) for line in lines[8:11]] == [
        [
            *("worker", "prefill", "a step", "decode step", "a sequence"),
            *("stall a token", "waiting", "KV free"),
        ],
        ["decode-0", "-", "-", "-", "-", "-", "0", "-"],
        ["prefill-0", "12,346 tokens/s", "8 ms", "-", "500 µs", "364 µs", "3", "46,464 tokens"],
    ]
    assert lines[12:] == [
        "from       to        bandwidth",
        "prefill-0  gone/c    1.2 GB/s",
        "prefill-0  decode-0  not the limit",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (
            None,
            "Whether hand-off pays is not known: too few requests went the other way for control",
        ),
        (-0.05, "Hand-off costs 50 ms of TTFT a request"),
    ],
)
def test_the_gain_in_words(
    capsys: pytest.CaptureFixture[str], seconds: float | None, words: str
) -> None:
    bare = {"disaggregation": "auto", "ttft_gain_seconds": seconds}
    assert shown(capsys, bare)[1:] == [words]
