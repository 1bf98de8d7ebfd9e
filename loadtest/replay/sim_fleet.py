"""A simulated fleet of this machine's own, started and stopped by its command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtest.endpoint import BadAnswer, Endpoint
from loadtest.local_run import LocalRun
from loadtest.replay.errors import FleetFailed

COMMAND = (sys.executable, "-m", "baton", "up", "--sim", "--port", "0")
POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
NUM_LAST_LINES = 5


@contextmanager
def sim_fleet(
    words: Sequence[str], start_seconds: float, command: Sequence[str] = COMMAND
) -> Iterator[str]:
    """The gateway's URL, once it serves. Later `words` win over ours. Raises FleetFailed."""
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        state_dir, log = Path(folder) / "run", Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--state-dir", str(state_dir), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is for us, and we stop it.
                start_new_session=True,
            )
        try:
            yield wait_until_ready(process, state_dir, log, time.monotonic() + start_seconds)
        finally:
            stop(process)


def wait_until_ready(
    process: subprocess.Popen[bytes], state_dir: Path, log: Path, deadline: float
) -> str:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise FleetFailed(f"the simulated fleet did not start: {last_lines(log)}")
        run = LocalRun.read(state_dir / "state.json")
        if run is not None and serves(run.url):
            return run.url
        time.sleep(POLL_SECONDS)
    raise FleetFailed(f"the simulated fleet was not ready in time: {last_lines(log)}")


def serves(url: str) -> bool:
    try:
        return bool(Endpoint(url, timeout_seconds=5.0).model())
    except (BadAnswer, OSError):
        return False


def last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return " | ".join([line.strip() for line in lines if line.strip()][-NUM_LAST_LINES:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """Gently first; all of its session in the end."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
