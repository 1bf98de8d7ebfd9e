"""UCX's own performance test, where libucx's wheel brings it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

START_SECONDS = 5.0
PAUSE_SECONDS = 0.1
MARGIN_SECONDS = 30.0
MIB = 1 << 20
# What to expect, to choose a number of messages that takes about the time wanted.
_ROUGH_BYTES_PER_SECOND = 5e9
_ROUGH_LATENCY_SECONDS = 2e-6
_MIN_MESSAGES, _MAX_MESSAGES = 10, 1_000_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """One that `ucx_perftest` is to make; its client is the sender."""

    host: str
    port: int
    num_bytes: int
    seconds: float
    tls: str
    handles_errors: bool
    core: int | None = None

    def latency_seconds(self) -> float | None:
        """None if it cannot be had."""
        each = max(_ROUGH_LATENCY_SECONDS, self.num_bytes / _ROUGH_BYTES_PER_SECOND)
        columns = self._ask("tag_lat", self.seconds / each / 2)
        return columns[3] / 1e6 if columns else None

    def bytes_per_second(self) -> float | None:
        """None if it cannot be had."""
        columns = self._ask("tag_bw", self.seconds * _ROUGH_BYTES_PER_SECOND / self.num_bytes)
        return columns[5] * MIB if columns else None

    def _ask(self, test: str, number: float) -> list[float]:
        """Again and again until the server listens."""
        num_messages = int(min(max(number, _MIN_MESSAGES), _MAX_MESSAGES))
        deadline = time.monotonic() + START_SECONDS
        while not (columns := self._ask_once(test, num_messages)) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return columns

    def _ask_once(self, test: str, num_messages: int) -> list[float]:
        options = ["-f", "-t", test, "-s", str(self.num_bytes), "-n", str(num_messages)]
        options += ["-w", str(max(2, num_messages // 10))]
        if self.handles_errors:
            options.append("-e")
        process = _start(self.port, self.tls, self.core, self.host, *options)
        if process is None:
            return []
        with process:
            try:
                output, _ = process.communicate(timeout=self.seconds * 10 + MARGIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return []
        return columns_of(output)


class ReferenceServer:
    """The receiver's side of one measurement. Ends with its `with` block."""

    def __init__(self, tls: str, core: int | None = None) -> None:
        self.port = _free_port()
        self._process = _start(self.port, tls, core)

    def __enter__(self) -> ReferenceServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with self._process:
                self._process.kill()


def has_reference() -> bool:
    return _libucx_folder() is not None


def columns_of(output: str) -> list[float]:
    """The numbers of the last line: iterations, latencies in us (median, average, overall),
    MB/s (average, overall), and so on; empty if it is not such a line.
    """
    lines = output.strip().splitlines()
    try:
        columns = [float(word) for word in lines[-1].split()] if lines else []
    except ValueError:
        return []
    return columns if len(columns) >= 6 else []


def _start(port: int, tls: str, core: int | None, *arguments: str) -> subprocess.Popen[str] | None:
    folder = _libucx_folder()
    if folder is None:
        return None
    pinned = [] if core is None else ["-c", str(core)]
    return subprocess.Popen(
        [folder / "bin" / "ucx_perftest", *arguments[:1], "-p", str(port), *pinned, *arguments[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(folder / "lib"),
            "UCX_TLS": tls,
            "UCX_WARN_UNUSED_ENV_VARS": "n",
        },
    )


def _libucx_folder() -> Path | None:
    spec = find_spec("libucx")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / "bin" / "ucx_perftest").exists() else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
