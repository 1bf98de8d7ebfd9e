"""UCX's own performance test, where libucx's wheel brings it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from kvtransfer.ucx import INSIDE_A_HOST

START_SECONDS = 5.0
PAUSE_SECONDS = 0.1
MARGIN_SECONDS = 20.0
MIB = 1 << 20
# What to expect, to choose a number of messages that takes about the time wanted.
_ROUGH_BYTES_PER_SECOND = 5e9
_ROUGH_LATENCY_SECONDS = 1e-6


class Reference:
    """Each measurement starts a server and a client; None if there is no `ucx_perftest`."""

    def __init__(self, cores: Sequence[int], seconds: float) -> None:
        self._cores = cores
        self._seconds = seconds
        self._folder = _libucx_folder()

    def latency_seconds(self, num_bytes: int) -> float | None:
        columns = self._run("tag_lat", num_bytes, self._seconds / _ROUGH_LATENCY_SECONDS)
        return columns[3] / 1e6 if columns else None

    def bytes_per_second(self, num_bytes: int) -> float | None:
        number = self._seconds * _ROUGH_BYTES_PER_SECOND / num_bytes
        columns = self._run("tag_bw", num_bytes, min(number, 1e6))
        return columns[5] * MIB if columns else None

    def _run(self, test: str, num_bytes: int, number: float) -> list[float]:
        """iterations, latencies in us (median, average, overall), MB/s (average, overall), …"""
        if self._folder is None:
            return []
        port = str(_free_port())
        with self._start(self._cores[-1], port) as server:
            try:
                client = [test, "-s", str(num_bytes), "-n", str(max(100, int(number)))]
                return self._ask(port, client)
            finally:
                server.kill()

    def _ask(self, port: str, client: list[str]) -> list[float]:
        """Again and again until the server listens."""
        deadline = time.monotonic() + START_SECONDS
        while not (columns := self._ask_once(port, client)) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return columns

    def _ask_once(self, port: str, client: list[str]) -> list[float]:
        command = ("127.0.0.1", "-f", "-t", *client)
        with self._start(self._cores[0], port, *command) as process:
            try:
                output, _ = process.communicate(timeout=self._seconds * 10 + MARGIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return []
        return columns_of(output)

    def _start(self, core: int, port: str, *arguments: str) -> subprocess.Popen[str]:
        assert self._folder is not None
        return subprocess.Popen(
            [self._folder / "bin" / "ucx_perftest", "-p", port, "-c", str(core), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(self._folder / "lib"),
                "UCX_TLS": os.environ.get("UCX_TLS", INSIDE_A_HOST),
                "UCX_WARN_UNUSED_ENV_VARS": "n",
            },
        )


def _libucx_folder() -> Path | None:
    spec = find_spec("libucx")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / "bin" / "ucx_perftest").exists() else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def columns_of(output: str) -> list[float]:
    """The numbers of the last line; empty if it is not such a line."""
    lines = output.strip().splitlines()
    try:
        columns = [float(word) for word in lines[-1].split()] if lines else []
    except ValueError:
        return []
    return columns if len(columns) >= 6 else []
