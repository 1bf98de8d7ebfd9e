from __future__ import annotations

from typing import Any

import pytest

from baton.cli import main
from tests.baton.small_gateway import small_gateway

EXPLAINED: dict[str, Any] = {
    "way": "remote",
    "is_control": False,
    "prompt_tokens": 1234,
    "uncached_tokens": 210,
    "kv_tokens": 1746,
    "computed_by": "prefill-0/a1",
    "decoded_by": "decode-1/b2",
    "took_over_from": None,
    "forecasts": {
        "local": {"ttft_seconds": 0.34, "itl_seconds": 0.04, "gap_seconds": 0.08, "cost": 0.57},
        "remote": {"ttft_seconds": 0.12, "itl_seconds": 0.035, "gap_seconds": 0.035, "cost": 0.235},
    },
    "compute": {
        "taken": "prefill-0/a1",
        "num_candidates": 4,
        "candidates": [
            {"worker": "prefill-0/a1", "score": 1.02, "predicted": 1.0, "session": 0.02},
            {"worker": "prefill-1/a2", "score": 0.5, "predicted": 0.5, "session": 0.0},
        ],
    },
    "decode": {
        "taken": "decode-1/b2",
        "num_candidates": 1,
        "candidates": [{"worker": "decode-1/b2", "score": 1.0, "pair": 1.0}],
    },
}
UNKNOWN = {"error": {"message": "Nothing is known.", "code": "unknown_request"}}


def test_one_request_with_its_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    with small_gateway(**{"explain?request_id=a%20b%2F1": EXPLAINED}) as gateway:
        assert main(["fleet", "explain", "a b/1", "--url", gateway.url]) == 0
    assert capsys.readouterr().out == (
        "Remote: prefill-0 computes 210 of 1,234 prompt tokens, decode-1 decodes and keeps room "
        "for 1,746\n"
        "\n"
        "   way     predicted TTFT  ITL    longest gap  cost\n"
        "   local   340 ms          40 ms  80 ms        0.57\n"
        "*  remote  120 ms          35 ms  35 ms        0.235\n"
        "\n"
        "   Computes, of 4  score  predicted  session\n"
        "*  prefill-0       1.020  1.000      0.020\n"
        "   prefill-1       0.500  0.500      0.000\n"
        "\n"
        "   Decodes, of 1  score  pair\n"
        "*  decode-1       1.000  1.000\n"
    )


def test_the_last_requests(capsys: pytest.CaptureFixture[str]) -> None:
    local = {**EXPLAINED, "way": "local", "is_control": True, "decoded_by": "prefill-0/a1"}
    requests = {"chatcmpl-1": EXPLAINED, "chatcmpl-2": local}
    with small_gateway(explain={"requests": requests}) as gateway:
        assert main(["fleet", "explain", "--url", gateway.url]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "request"
    assert first.split() == [
        "chatcmpl-1", "remote", "1,234", "210", "prefill-0", "decode-1", "120", "ms",
    ]  # fmt: skip
    assert "local, for control" in second


def test_what_was_taken_over_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    taken = {**EXPLAINED, "took_over_from": "prefill-3/z", "compute": None, "forecasts": {}}
    with small_gateway(**{"explain?request_id=r": taken}) as gateway:
        assert main(["fleet", "explain", "r", "--url", gateway.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Remote, taken over: ")
    assert lines[1] == "prefill-0 had nothing to do and took it over from prefill-3"


def test_a_request_that_is_not_known_is_a_1(capsys: pytest.CaptureFixture[str]) -> None:
    with small_gateway() as gateway:
        gateway.pages = {"/fleet/explain?request_id=r": (404, UNKNOWN)}
        assert main(["fleet", "explain", "r", "--url", gateway.url]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: Nothing is known. `baton fleet explain` lists")
    assert error.count("\n") == 1
