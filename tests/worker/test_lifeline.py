from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

PARENT = """
import os, signal, sys, time
from worker.lifeline import die_with

parent = os.getpid()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(parent)
    print(os.getpid(), flush=True)
    time.sleep(600)
os.waitpid(child, 0)
"""

ORPHAN = """
import os
from worker.lifeline import die_with

die_with(os.getppid() + 1)
print("lives on")
"""


def test_a_killed_parent_takes_its_child_along() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        child.wait(timeout=5)
        assert not child.is_running()


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
