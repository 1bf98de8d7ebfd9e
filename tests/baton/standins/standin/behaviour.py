"""What a test wants of one stand-in: the words that the variable STANDIN gives for its name.

STANDIN="prefill-0=fail decode-0=stubborn,segment"
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

IGNORE_AND_STAY = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("grandchild is deaf", flush=True)
time.sleep(600)
"""


def words(name: str) -> set[str]:
    wanted = dict(pair.split("=") for pair in os.environ.get("STANDIN", "").split())
    return set(wanted.get(name, "").split(",")) - {""}


def behave(name: str) -> None:
    """Everything but serving."""
    wanted = words(name)
    if "fail" in wanted:
        sys.stderr.write("Traceback: noise\n")
        sys.exit(f"error: {name} wants another KV layout")
    if "crash" in wanted:
        raise RuntimeError("engine is broken")
    if "never" in wanted:
        signal.pause()
    if "deaf" in wanted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "grandchild" in wanted:
        start_grandchild()
    if "segment" in wanted:
        make_segment()
    # Once only: the second start goes well.
    for word in wanted:
        if word.startswith("once:") and not Path(word[5:]).exists():
            Path(word[5:]).touch()
            sys.exit("error: only this time")


def start_grandchild() -> None:
    """As an engine core: in a process group of its own, deaf to SIGTERM."""
    child = subprocess.Popen(
        [sys.executable, "-c", IGNORE_AND_STAY], stdout=subprocess.PIPE, process_group=0
    )
    assert child.stdout
    child.stdout.readline()


def make_segment() -> None:
    """A file in /dev/shm, kept open and never removed."""
    path = Path(os.environ["STANDIN_SEGMENT"])
    path.write_bytes(b"x")
    os.open(path, os.O_RDONLY)
