"""`python -m gateway --processes 2`: one port, one page of metrics, and processes that die."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from fleet.member import Role
from tests.fleet.server import RunningValkey
from tests.gateway.builders import PATIENCE_SECONDS
from tests.gateway.stand_in_worker import Fabric, PlainWire, StandInWorker
from tests.gateway.test_process import (
    START_SECONDS,
    free_port,
    gateway,
    healthy,
    last_line,
    registered_workers,
)
from tests.proto.builders import FLOAT_LAYOUT

pytestmark = pytest.mark.timeout(200)
ANSWERS = 'baton_http_answers_total{route="/v1/models",status="200"}'


@dataclass(frozen=True, slots=True)
class Group:
    url: str
    process: asyncio.subprocess.Process

    async def get(self, path: str) -> str:
        """Over a connection of its own, which any of the processes may take."""
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.get(self.url + path)
            assert response.status_code == 200
            return response.text

    async def complete(self) -> None:
        body = {"model": "tiny", "prompt": "one two three", "max_tokens": 4}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
            response = await client.post(f"{self.url}/v1/completions", json=body)
            assert response.status_code == 200, response.text
            assert response.json()["usage"]["completion_tokens"] == 4

    async def reading(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def pids(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}


@asynccontextmanager
async def group_of_two(model: Path, folder: Path) -> AsyncIterator[Group]:
    with warnings.catch_warnings():
        # Importing vLLM and its libraries warns of much that is not ours.
        warnings.simplefilter("ignore")
        from tests.gateway.vllm_wire import VllmWire

    fabric = Fabric()
    prefill = StandInWorker("prefill-0", Role.PREFILL, VllmWire(), fabric)
    decode = StandInWorker("decode-0", Role.DECODE, VllmWire(), fabric)
    port = str(free_port())
    with RunningValkey(folder) as valkey:
        words = ("--model", str(model), "--redis", valkey.url, "--port", port, "--processes", "2")
        async with registered_workers(valkey, prefill, decode), gateway(*words) as process:
            group = Group(f"http://127.0.0.1:{port}", process)
            await healthy(f"{group.url}/health", process)
            await until(lambda: len(group.pids()) == 2)
            await until_serving(group)
            yield group


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not holds():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def until_serving(group: Group) -> None:
    """Until both processes have answered."""
    async with asyncio.timeout(START_SECONDS):
        while len(await answering(group, 8)) < 2:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def answering(group: Group, num_connections: int) -> set[int]:
    """Who takes these connections, all open at once."""
    port = int(group.url.rpartition(":")[2])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(num_connections)]
    try:
        for _, writer in opened:
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader, _ in opened:
            assert b"200" in await reader.readline()
        return {pid for pid in group.pids() if connections(pid, port)}
    finally:
        for _, writer in opened:
            writer.close()


def connections(pid: int, port: int) -> int:
    found = psutil.Process(pid).net_connections("tcp")
    return sum(each.laddr.port == port and each.status == "ESTABLISHED" for each in found)


async def test_two_processes_share_a_port_and_count_together(
    tiny_model: Path, tmp_path: Path
) -> None:
    async with group_of_two(tiny_model, tmp_path) as group:
        before = await group.reading(ANSWERS)
        for _ in range(30):
            await group.get("/v1/models")
        for _ in range(10):
            assert await group.reading(ANSWERS) == before + 30
        await asyncio.gather(*(group.complete() for _ in range(12)))
        page = await group.get("/metrics")
        assert 'baton_requests_total{outcome="finished"} 12.0' in page
        assert re.search(r"vllm:generation_tokens_total\{.*\} 48.0", page)
        assert page.count("baton_worker_kv_blocks{") == 2
        assert page.count("\nbaton_fleet_state_reachable 1.0\n") == 1
        for number in (0, 1):
            assert f'process_resident_memory_bytes{{process="{number}"}}' in page
        assert page.count("# TYPE baton_requests_total counter") == 1

        old = group.pids()
        os.kill(min(old), signal.SIGKILL)
        readings = [await group.reading(ANSWERS) for _ in range(10)]
        assert readings == [before + 30] * 10
        await until(lambda: len(group.pids()) == 2 and min(old) not in group.pids())
        await until_serving(group)
        assert await group.reading(ANSWERS) >= before + 30

        children = group.pids()
        group.process.send_signal(signal.SIGTERM)
        assert group.process.stderr
        written = (await group.process.stderr.read()).decode()
        assert await group.process.wait() == 0
        assert "was ended by signal 9; it starts again in 0.5 s" in written
        assert not any(map(psutil.pid_exists, children))


async def test_processes_do_not_outlive_their_parent(tiny_model: Path, tmp_path: Path) -> None:
    async with group_of_two(tiny_model, tmp_path) as group:
        children = group.pids()
        group.process.kill()
        await group.process.wait()
        await until(lambda: not any(map(psutil.pid_exists, children)))


async def test_a_start_that_fails_says_so_once(tiny_model: Path, tmp_path: Path) -> None:
    prefill = StandInWorker("prefill-0", Role.PREFILL, PlainWire(), Fabric())
    decode = StandInWorker("decode-0", Role.DECODE, PlainWire(), Fabric())
    decode.description.kv_layout.CopyFrom(FLOAT_LAYOUT.to_proto())
    with RunningValkey(tmp_path) as valkey:
        words = ("--model", str(tiny_model), "--redis", valkey.url, "--port", "0")
        async with (
            registered_workers(valkey, prefill, decode),
            gateway(*words, "--processes", "3") as process,
        ):
            line = await last_line(process)
    assert process.returncode == 1
    assert line.startswith("error: ")
    assert "prefill-0" in line
