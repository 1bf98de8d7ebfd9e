from __future__ import annotations

import io
from typing import Any

import pytest

from baton.cli import main
from baton.console import Console
from baton.fleet_index import fetch_index
from tests.baton.small_gateway import small_gateway

HELD = {"is_whole": True, "device": 1000, "host": 20, "disk": 3}
INDEX: dict[str, Any] = {
    "num_blocks": 18432,
    "num_entries": 20480,
    "num_expected": 1234,
    "num_bytes": 430_000,
    "bytes_per_entry": 21.0,
    "is_current": True,
    "lag_seconds": 0.012,
    "num_prompt_tokens": 1_234_567,
    "num_cached_tokens": 509_876,
    "hit_rate": 0.413,
    "workers": {"prefill-0/a1": HELD, "decode-0/b2": {**HELD, "device": 5000}},
    "of_tomorrow": 1,
}
AUDIT = {
    "num_held": 1500,
    "num_lacking": 4,
    "num_wrong": 2,
    "share_lacking": 0.004,
    "share_wrong": 0.002,
    "num_workers": 1000,
    "num_asked": 16,
    "workers": {
        "prefill-0/a1": {
            "num_held": 1500,
            "num_lacking": 4,
            "num_wrong": 2,
            "share_lacking": 0.004,
            "share_wrong": 0.002,
        },
        "decode-0/b2": {"reason": "it did not answer"},
    },
}


def shown(capsys: pytest.CaptureFixture[str], index: dict[str, Any]) -> tuple[int, list[str]]:
    with small_gateway(index=index) as gateway:
        code = main(["fleet", "index", "--url", gateway.url])
    return code, capsys.readouterr().out.splitlines()


def test_size_hits_lag_and_tiers_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = shown(capsys, INDEX)
    assert code == 0
    assert lines[0] == (
        "18,432 blocks in 20,480 entries; 430.0 KB, 21.0 bytes each; 1,234 expected soon"
    )
    assert lines[1].startswith("41.3% of 1,234,567 prompt tokens")
    assert lines[2] == "Current, 12 ms behind the log"
    assert [line.split() for line in lines[3:]] == [
        ["worker", "device", "host", "disk", "whole"],
        ["prefill-0", "1,000", "20", "3", "yes"],
        ["decode-0", "5,000", "20", "3", "yes"],
        ["all", "6,000", "40", "6", "2/2"],
    ]


def test_an_index_that_is_not_whole_is_a_1(capsys: pytest.CaptureFixture[str]) -> None:
    workers = {"a/1": {**HELD, "is_whole": False}}
    code, lines = shown(capsys, {**INDEX, "workers": workers})
    assert (code, lines[-1].split()[-1]) == (1, "0/1")
    code, lines = shown(capsys, {**INDEX, "is_current": False, "lag_seconds": 3.0})
    assert (code, lines[2]) == (1, "Not current, 3 s behind the log")
    code, lines = shown(capsys, {**INDEX, "is_current": False, "lag_seconds": None})
    assert (code, lines[2][:22]) == (1, "The fleet's state does")


def test_tiers_that_hold_nothing_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    workers = {"a/1": {"is_whole": True}, "b/1": {"is_whole": True, "disk": 2}}
    _, lines = shown(capsys, {**INDEX, "workers": workers})
    assert [line.split() for line in lines[3:]] == [
        ["worker", "device", "disk", "whole"],
        ["a", "0", "0", "yes"],
        ["b", "0", "2", "yes"],
        ["all", "0", "2", "2/2"],
    ]


def test_an_empty_index(capsys: pytest.CaptureFixture[str]) -> None:
    empty = {"num_blocks": 0, "num_entries": 0, "num_bytes": 0, "is_current": True}
    code, lines = shown(capsys, {**empty, "bytes_per_entry": None, "lag_seconds": 0, "workers": {}})
    assert code == 0
    assert lines[0] == "0 blocks in 0 entries; 0 B"
    assert len(lines) == 3


def test_an_audit_is_shown_by_worker_and_in_all(capsys: pytest.CaptureFixture[str]) -> None:
    index = {**INDEX, "workers": {**INDEX["workers"], "decode-1/c3": HELD}, "audit": AUDIT}
    with small_gateway(**{"index?audit=1": index}) as gateway:
        assert main(["fleet", "index", "--audit", "--url", gateway.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "16 of 1,000 workers asked"
    prefill, decode, not_asked, total = lines[5:]
    assert prefill.endswith("1,500        4 (0.40%)  2 (0.20%)")
    assert decode.split()[-4:] == ["no", "answer", "-", "-"]
    assert not_asked.split()[-4:] == ["yes", "-", "-", "-"]
    assert total.endswith("1,500        4 (0.40%)  2 (0.20%)")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_to_wait_for_an_audit() -> None:
    terminal = Terminal()
    with small_gateway(**{"index?audit=1": INDEX}) as gateway:
        console = Console(terminal)
        fetch_index(gateway.url, True, console)
        console.line("done")
    before, _, after = terminal.getvalue().partition("\r")
    assert before.startswith("Asking workers twice")
    assert after.endswith("done\n")
