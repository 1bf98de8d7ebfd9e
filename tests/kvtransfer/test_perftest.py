from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvtransfer.perftest_driver import Row
from kvtransfer.perftest_options import parse
from kvtransfer.perftest_reference import columns_of, has_reference
from kvtransfer.perftest_table import HEADER, line, size_name, size_of

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "kvtransfer.perftest"]
SHORT = ["--seconds", "0.01", "--rounds", "1", "--sizes", "4k,1m"]
PATIENCE_SECONDS = 50


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_it_prints_its_table() -> None:
    ran = run(*SHORT, "--no-reference", "--tokens", "256", "--layers", "2")
    assert ran.returncode == 0, ran.stderr
    first, *_, small, large, _, prompt = ran.stdout.splitlines()
    assert first == "transports: sysv/memory"
    ours = r"\| +[\d.]+ +- +- "
    rest = r"\| +[\d.]+ \| +[\d.]+"
    assert re.fullmatch(rf" +4 KiB {ours * 3}{rest}", small)
    assert re.fullmatch(rf" +1 MiB {ours * 3}{rest}", large)
    assert re.match(r"prompt of 256 tokens, 2 layers, 0.4 MB, .* ms, [\d.]+ GB/s", prompt)


@pytest.mark.skipif(not has_reference(), reason="this UCX brings no ucx_perftest")
def test_the_reference_stands_beside_it() -> None:
    ran = run(*SHORT, "--tokens", "0", "--json", "--transport", "tcp")
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert all(lane.startswith("tcp/") for lane in results["lanes"])
    assert [row["num_bytes"] for row in results["rows"]] == [4096, 1 << 20]
    assert all(value > 0 for row in results["rows"] for value in row.values())


def test_two_hosts_measure_over_a_socket() -> None:
    with subprocess.Popen(
        [*COMMAND, "--serve", "127.0.0.1:0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as serving:
        try:
            assert serving.stdout is not None
            port = serving.stdout.readline().split()[-1]
            there = f"127.0.0.1:{port}"
            ran = run(*SHORT, "--no-reference", "--json", "--transport", "tcp", "--connect", there)
            assert ran.returncode == 0, ran.stderr
            assert serving.wait(PATIENCE_SECONDS) == 0
        finally:
            serving.kill()
    results = json.loads(ran.stdout)
    assert all(lane.startswith("tcp/") for lane in results["lanes"])
    assert len(results["rows"]) == 2
    assert results["prompt"] is None


def test_without_a_server_it_says_so() -> None:
    ran = run("--connect", "127.0.0.1:1")
    assert ran.returncode == 1
    assert ran.stderr == "error: nobody serves at 127.0.0.1:1: start `--serve 1` there\n"
    assert "Traceback" not in ran.stderr


def test_a_transport_that_does_not_exist_is_said() -> None:
    ran = run(*SHORT, "--transport", "carrier-pigeon")
    assert ran.returncode == 1
    assert "UCX offers no transport here" in ran.stderr.splitlines()[-1]


def test_the_last_line_of_the_reference_is_read() -> None:
    output = "+---+\n  500  0.070  177.722  177.722  22507.06  22507.06  5627  5627\n"
    assert columns_of(output)[5] == 22507.06
    assert columns_of("connect() failed: Connection refused") == []
    assert columns_of("") == []


def test_ratios_are_ours_by_the_reference() -> None:
    row = Row(1 << 20, 20e-6, 10e-6, 5e9, 10e9, 9e9, None, 8e9, 0.25)
    assert line(row) == (
        "   1 MiB |   20.00      10.00   2.00 |    5.00      10.00   0.50 "
        "|    9.00          -      - |   8.00 |  0.250"
    )
    assert {len(each) for each in HEADER.splitlines()} == {len(line(row))}


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("100", 100), ("4k", 4096), ("64KiB", 65536), ("1.5M", 3 << 19), ("2g", 2 << 30)],
)
def test_sizes_are_read(text: str, num_bytes: int) -> None:
    assert size_of(text) == num_bytes
    assert size_of(size_name(num_bytes)) == num_bytes


@pytest.mark.parametrize(
    "options",
    [["--sizes", "4x"], ["--sizes", "0"], ["--rounds", "0"], ["--serve", "1", "--connect", "a:1"]],
)
def test_what_makes_no_sense_is_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(options)
    assert options[0] in capsys.readouterr().err
