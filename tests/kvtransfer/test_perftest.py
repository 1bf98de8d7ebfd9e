from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from kvtransfer.perftest_reference import columns_of

ROOT = Path(__file__).resolve().parents[2]


def test_it_prints_its_table() -> None:
    small = ["--no-reference", "--seconds", "0.01", "--tokens", "256", "--layers", "2"]
    ran = subprocess.run(
        [sys.executable, "-m", "kvtransfer.perftest", *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert re.search(r"latency +64 B +[\d.]+ us +-", ran.stdout)
    assert re.search(r"bandwidth +4 MiB +[\d.]+ GB/s +-", ran.stdout)
    assert re.search(r"prompt of 256 tokens, 2 layers, 0.4 MB, .* ms, [\d.]+ GB/s", ran.stdout)


def test_the_last_line_of_the_reference_is_read() -> None:
    output = "+---+\n  500  0.070  177.722  177.722  22507.06  22507.06  5627  5627\n"
    assert columns_of(output)[5] == 22507.06
    assert columns_of("connect() failed: Connection refused") == []
    assert columns_of("") == []
