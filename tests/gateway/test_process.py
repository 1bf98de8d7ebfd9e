"""`python -m gateway` as a process: how it ends, and what it says then."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx
import pytest

from fleet.member import Role
from fleet.redis_membership import RedisMembership
from fleet.registration import Registration
from tests.fleet.server import RunningValkey
from tests.fleet.tls import Authority, tls_before
from tests.gateway.stand_in_worker import Fabric, PlainWire, StandInWorker, serving
from tests.proto.builders import FLOAT_LAYOUT, KEY, LAYOUT

START_SECONDS = 100.0


@asynccontextmanager
async def gateway(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with NamedTemporaryFile("w") as key_file:  # which no one else can read
        key_file.write(KEY.to_hex())
        key_file.flush()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "--fleet-key-file", key_file.name, *words,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def last_line(process: asyncio.subprocess.Process) -> str:
    assert process.stderr
    async with asyncio.timeout(START_SECONDS):
        written = await process.stderr.read()
        await process.wait()
    return written.decode().splitlines()[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_a_taken_port_is_one_line(tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        async with gateway("--model", str(tiny_model), "--port", port) as process:
            line = await last_line(process)
    assert line == f"error: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert process.returncode == 1


async def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    async with gateway("--model", str(tmp_path / "none"), "--port", "0") as process:
        line = await last_line(process)
    assert line == f"error: model: there is no folder {tmp_path / 'none'}"
    assert process.returncode == 1


async def test_an_unreachable_redis_is_one_line(tiny_model: Path) -> None:
    redis = f"redis://127.0.0.1:{free_port()}"
    async with gateway("--model", str(tiny_model), "--port", "0", "--redis", redis) as process:
        line = await last_line(process)
    assert line.startswith(f"error: fleet state at {redis} is unreachable")
    assert process.returncode == 1


async def test_a_user_without_rights_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with RunningValkey(tmp_path) as valkey:
        redis = valkey.limited_url("another")
        async with gateway("--model", str(tiny_model), "--port", "0", "--redis", redis) as process:
            line = await last_line(process)
    assert line.startswith(f"error: fleet state at {valkey.url} does not take us: ")
    assert line.endswith("docs/fleet-state.md has the ACL SETUSER line for its user")
    assert process.returncode == 1


async def test_a_bad_flag_is_one_line() -> None:
    async with gateway("--model", "x", "--colour", "blue") as process:
        assert await last_line(process) == "error: unrecognized arguments: --colour blue"
    assert process.returncode == 1


@asynccontextmanager
async def registered_workers(valkey: RunningValkey, *workers: StandInWorker) -> AsyncIterator[None]:
    async with (
        serving(*workers),
        RedisMembership.connect(valkey.url, "baton") as membership,
        Registration(membership, workers[0].member),
        Registration(membership, workers[1].member),
    ):
        yield


@pytest.mark.timeout(200)
async def test_it_serves_over_tls_until_sigterm_and_ends_well(
    tiny_model: Path, tmp_path: Path
) -> None:
    prefill = StandInWorker("prefill-0", Role.PREFILL, PlainWire(), Fabric())
    decode = StandInWorker("decode-0", Role.DECODE, PlainWire(), Fabric())
    port = free_port()
    authority = Authority.make(tmp_path)
    with RunningValkey(tmp_path) as valkey:
        user = valkey.limited_url("baton").removeprefix("unix://").partition("@")[0]
        async with (
            tls_before(valkey.socket, authority, wants_client=True) as tls_port,
            registered_workers(valkey, prefill, decode),
            gateway(
                *("--model", str(tiny_model), "--port", str(port)),
                *("--redis", f"rediss://{user}@localhost:{tls_port}?{authority.options()}"),
            ) as process,
        ):
            await healthy(f"http://127.0.0.1:{port}/health", process)
            process.send_signal(signal.SIGTERM)
            line = await last_line(process)
    assert process.returncode == 0
    assert f"serving tiny on http://127.0.0.1:{port}" in line


@pytest.mark.timeout(200)
async def test_an_outage_is_shown_and_survived(tiny_model: Path, tmp_path: Path) -> None:
    prefill = StandInWorker("prefill-0", Role.PREFILL, PlainWire(), Fabric())
    decode = StandInWorker("decode-0", Role.DECODE, PlainWire(), Fabric())
    port = str(free_port())
    with RunningValkey(tmp_path) as valkey:
        async with (
            registered_workers(valkey, prefill, decode),
            gateway("--model", str(tiny_model), "--redis", valkey.url, "--port", port) as process,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            await healthy(f"http://127.0.0.1:{port}/health", process)
            assert "baton_fleet_state_reachable 1.0" in (await client.get("/metrics")).text
            valkey.stop()
            health = await reachable(client, False)
            assert "1 decode and 1 prefill workers are usable" in health["detail"]
            assert "fleet state has been unreachable for" in health["detail"]
            assert "baton_fleet_state_reachable 0.0" in (await client.get("/metrics")).text
            valkey.start()
            health = await reachable(client, True)
            assert health["detail"] == "1 decode and 1 prefill workers are usable"
            metrics = (await client.get("/metrics")).text
            assert "baton_fleet_state_outage_seconds_total 0.0" not in metrics
            process.send_signal(signal.SIGTERM)
            assert process.stderr
            written = (await process.stderr.read()).decode()
    assert written.count("is unreachable") == 1
    assert written.count("fleet state is back") == 1


async def reachable(client: httpx.AsyncClient, is_reachable: bool) -> dict[str, str]:
    """/health as soon as it says so; it is 200 all the time."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            health = await client.get("/health")
            assert health.status_code == 200
            if health.json()["is_fleet_state_reachable"] is is_reachable:
                found: dict[str, str] = health.json()
                return found
            await asyncio.sleep(0.1)


@pytest.mark.timeout(200)
async def test_workers_that_do_not_fit_together_are_one_line(
    tiny_model: Path, tmp_path: Path
) -> None:
    prefill = StandInWorker("prefill-0", Role.PREFILL, PlainWire(), Fabric())
    decode = StandInWorker("decode-0", Role.DECODE, PlainWire(), Fabric())
    decode.description.kv_layout.CopyFrom(FLOAT_LAYOUT.to_proto())
    with RunningValkey(tmp_path) as valkey:
        async with (
            registered_workers(valkey, prefill, decode),
            gateway("--model", str(tiny_model), "--redis", valkey.url, "--port", "0") as process,
        ):
            line = await last_line(process)
    assert process.returncode == 1
    assert line.startswith("error: ")
    for part in ("prefill-0", "decode-0", LAYOUT.summary, FLOAT_LAYOUT.summary):
        assert part in line


async def healthy(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while process.returncode is None:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.1)
