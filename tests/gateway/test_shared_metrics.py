"""What processes that are gone have counted, in prometheus_client's own files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from gateway.shared_metrics import Shared, bury

folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])

def page():
    return generate_latest(Shared(folder, [])).decode()

def additive(page):
    return sorted(line for line in page.splitlines() if line.startswith(("c_", "h_")))

def count(number):
    Counter("c", "", ["a"], registry=None).labels("x").inc(number)
    Histogram("h", "", buckets=[1, 2], registry=None).observe(number)
    Gauge("g", "", registry=None, multiprocess_mode="livemin").set(number)
    os._exit(0)

for number in (1, 2, 3):
    pid = os.fork()
    if not pid:
        count(number)
    os.waitpid(pid, 0)
    before = page()
    assert f"g {number}.0" in before
    bury(folder, pid)
    bury(folder, pid)
    assert additive(page()) == additive(before)
print(page())
print(*sorted(path.name for path in folder.iterdir()))
"""


def test_what_is_counted_stays_in_one_file_for_all(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    *page, files = done.stdout.strip().splitlines()
    assert 'c_total{a="x"} 6.0' in page
    assert {'h_bucket{le="1.0"} 1.0', 'h_bucket{le="2.0"} 2.0', "h_sum 6.0"} <= set(page)
    assert files == "counter_gone.db histogram_gone.db lock"
