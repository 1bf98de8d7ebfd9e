"""A start that cannot succeed ends with one clear line, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from baton.fleet_key import write_key
from fleet.member import Role
from fleet.redis_membership import RedisMembership
from fleet.valkey import ValkeyServer
from tests.gateway.stand_in_worker import (
    VLLM_VERSION,
    Fabric,
    PlainWire,
    StandInWorker,
    serving,
)
from tests.system.processes import environment, left_segments, marked, orphaned_engines, segments
from tests.system.root import ROOT
from tests.system.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PATIENCE_SECONDS = 120.0
TIB = 1024**4


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command ended: `line` is the last that it wrote."""

    exit_code: int
    line: str
    output: str


def fail(folder: Path, *words: str, variables: Mapping[str, str] | None = None) -> Failure:
    """Runs `baton up` to its end, and sees that nothing of it is left."""
    mark, before = secrets.token_hex(8), segments()
    command = [sys.executable, "-m", "baton", "up", "--state-dir", str(folder / "run"), *words]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(mark, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert marked(mark) == {}
    assert orphaned_engines() == set()
    assert left_segments(before) == set()
    assert not list((folder / "run").glob("*.sock"))
    assert "Traceback" not in ended.stdout
    return Failure(ended.returncode, ended.stdout.splitlines()[-1], ended.stdout)


def test_a_port_that_is_taken(tmp_path: Path, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failure = fail(tmp_path, "--model", str(model), "--port", port)
    assert failure.exit_code == 1
    assert failure.line.startswith("error: ")
    assert port in failure.line


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    failure = fail(tmp_path, "--model", str(folder), "--port", "0")
    assert failure.exit_code == 1
    assert failure.line.startswith("error: ")
    assert str(folder) in failure.line


def test_a_model_too_large_for_memory(tmp_path: Path, model: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(model, large, ignore=shutil.ignore_patterns("*.safetensors"))
    with (large / "model.safetensors").open("wb") as weights:
        weights.truncate(TIB)
    failure = fail(tmp_path, "--model", str(large), "--port", "0")
    assert failure.exit_code == 1
    assert failure.line.startswith("error: not enough memory: ")
    assert "1024.0 GiB" in failure.line


def test_no_ucx(tmp_path: Path, model: Path) -> None:
    missing = tmp_path / "without-ucx"
    (missing / "ucxx").mkdir(parents=True)
    (missing / "ucxx" / "__init__.py").write_text("raise ImportError('No module named ucxx')")
    variables = {"PYTHONPATH": f"{missing}:{ROOT}"}
    failure = fail(tmp_path, "--model", str(model), "--port", "0", variables=variables)
    assert failure.exit_code == 1
    assert failure.line.startswith("error: ")
    assert "ucx" in failure.line.lower()


def test_workers_of_different_kv_layouts(tmp_path: Path, model: Path) -> None:
    flags = ("--port", "0", "--decode-args=--dtype float32", "--prefill-args=--dtype bfloat16")
    failure = fail(tmp_path, "--model", str(model), *flags)
    assert failure.exit_code == 1
    assert failure.line.startswith("error: prefill-0 and decode-0 do not fit: KV differs in type")
    assert "the sender has 30 layers, 3 KV heads of 128 elements, bfloat16" in failure.line
    assert "the receiver has 30 layers, 3 KV heads of 128 elements, float32" in failure.line


async def test_a_worker_of_another_vllm_version(tmp_path: Path, model: Path) -> None:
    """Two versions cannot be installed side by side, so this worker only says that it is one."""
    fabric, wire = Fabric(), PlainWire()
    prefill = StandInWorker("prefill-0", Role.PREFILL, wire, fabric)
    decode = StandInWorker("decode-0", Role.DECODE, wire, fabric)
    decode.description.vllm_version = "0.31.0"
    with embedded_valkey(tmp_path / "valkey.sock") as url:
        async with serving(prefill, decode), RedisMembership.connect(url, "baton") as membership:
            for worker in (prefill, decode):
                await membership.join(worker.member, PATIENCE_SECONDS)
            gateway = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "--model", str(model), "--redis", url),
                *("--port", "0", "--fleet-key-file", str(new_key(tmp_path))),
                cwd=ROOT,
                env=environment(secrets.token_hex(8)),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                _, errors = await gateway.communicate()
    assert gateway.returncode == 1
    line = errors.decode().splitlines()[-1]
    assert line.startswith("error: decode-0 runs vLLM 0.31.0, but ")
    assert VLLM_VERSION in line


def new_key(folder: Path) -> Path:
    path = folder / "fleet.key"
    write_key(path)
    return path


@contextmanager
def embedded_valkey(path: Path) -> Iterator[str]:
    """Its URL."""
    server = ValkeyServer(path)
    process = subprocess.Popen(server.command(), stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists, 10.0)
        yield server.url
    finally:
        process.terminate()
        process.wait(10.0)
