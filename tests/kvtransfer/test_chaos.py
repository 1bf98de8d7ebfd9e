from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.system.root import ROOT

NUM_RUNS = 12


@pytest.mark.timeout(200)
def test_hand_offs_end_well_whatever_is_done_to_their_workers() -> None:
    """A short round of `make chaos-transfer`, always the same one."""
    options = ["--runs", str(NUM_RUNS), "--seed", "4", "--place", "host", "tcp"]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.suites.transfer_chaos", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=190,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert f"{NUM_RUNS} runs, 0 problems" in ran.stdout
    counts = [int(n) for n in re.findall(r"(\d+) (?:completed|failed|lost)", ran.stdout)]
    assert sum(counts) >= 5 * NUM_RUNS
