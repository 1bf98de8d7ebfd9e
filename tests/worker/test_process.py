from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from decode_worker.leg import DECODE
from fleet.errors import FleetUnavailable, Superseded
from fleet.member import Member, Role
from fleet.member_load import MemberLoad
from fleet.redis_membership import RedisMembership
from tests.fleet.builders import eventually
from tests.proto.builders import KEY
from tests.worker.builders import make_hub
from tests.worker.scripted_engine import ScriptedEngine
from worker.errors import BadModel, BadSettings, EngineLost, PortTaken
from worker.load import Load
from worker.process import Program, main, run, serve
from worker.settings import WorkerSettings, load
from worker.shutdown import SIGNALS

PROGRAM = Program("python -m some_worker", WorkerSettings, (DECODE,))
US = Member("w-0", "abc", "127.0.0.1:9000", (Role.DECODE,), "m", "0.32.0", 1, 0.0)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """What a worker process does to its signals, this one must outlive."""
    handlers = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in handlers.items():
        signal.signal(each, handler)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.key"
    path.touch(mode=0o600)
    path.write_text(KEY.to_hex())
    return path


@pytest.fixture
async def membership() -> AsyncIterator[RedisMembership]:
    async with RedisMembership(FakeAsyncRedis(server=FakeServer()), "fleet") as membership:
        yield membership


def make_settings(model: Path, key_file: Path, port: int = 0) -> WorkerSettings:
    """Of a fleet that nobody serves."""
    words = ["--model", str(model), "--worker-id", "w-0", "--port", str(port)]
    words += ["--redis", "redis://127.0.0.1:1", "--fleet-key-file", str(key_file)]
    return load(WorkerSettings, PROGRAM.name, words)


async def joined(membership: RedisMembership) -> None:
    async def is_anyone_there() -> bool:
        return bool(await membership.members())

    await eventually(is_anyone_there)


async def test_a_missing_model_is_found_first(tmp_path: Path, key_file: Path) -> None:
    with pytest.raises(BadModel):
        await run(PROGRAM, make_settings(tmp_path / "nowhere", key_file))


def test_a_key_that_others_can_read_is_found_first(model: Path, key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(BadSettings, match=f"--fleet-key-file: {key_file}: others can read"):
        asyncio.run(run(PROGRAM, make_settings(model, key_file)))


async def test_a_taken_port_is_found_before_the_engine_starts(model: Path, key_file: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(PortTaken):
            await run(PROGRAM, make_settings(model, key_file, listener.getsockname()[1]))


async def test_an_unreachable_fleet_is_found_before_the_engine_starts(
    model: Path, key_file: Path
) -> None:
    with pytest.raises(FleetUnavailable):
        await run(PROGRAM, make_settings(model, key_file))


@pytest.mark.parametrize("told", SIGNALS)
async def test_a_worker_serves_until_it_is_told_to_stop(
    membership: RedisMembership, told: signal.Signals
) -> None:
    hub, _ = make_hub(ScriptedEngine())
    link = hub.open("gateway")
    async with asyncio.timeout(5):
        serving = asyncio.ensure_future(serve(hub, membership, US))
        await joined(membership)
        os.kill(os.getpid(), told)
        await serving
    assert await membership.members() == ()
    # The session ends by itself.
    while await link.outbox.get():
        pass


async def test_a_workers_load_is_in_the_fleets_state(membership: RedisMembership) -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    read = Load(num_running=3, num_waiting=2, num_kv_blocks=100, num_kv_blocks_used=70)

    async def is_told() -> bool:
        return await membership.loads() == {"w-0": MemberLoad(3, 2, 100, 70)}

    serving = asyncio.ensure_future(serve(hub, membership, US))
    await joined(membership)
    engine.step(load=read)
    await eventually(is_told)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    assert await membership.loads() == {}


async def test_a_dead_engine_ends_the_worker_and_its_stay(membership: RedisMembership) -> None:
    engine = ScriptedEngine()
    hub, _ = make_hub(engine)
    serving = asyncio.ensure_future(serve(hub, membership, US))
    await joined(membership)
    engine.die()
    with pytest.raises(EngineLost):
        await serving
    assert await membership.members() == ()


async def test_a_worker_that_cannot_join_does_not_serve() -> None:
    hub, _ = make_hub(ScriptedEngine())
    async with RedisMembership.connect("redis://127.0.0.1:1", "fleet") as membership:
        with pytest.raises(FleetUnavailable):
            await serve(hub, membership, US)


async def test_a_worker_whose_place_is_taken_ends(
    membership: RedisMembership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.registration.RENEWALS_PER_LEASE", 1000)
    hub, _ = make_hub(ScriptedEngine())
    serving = asyncio.ensure_future(serve(hub, membership, US))
    await joined(membership)
    younger = Member("w-0", "def", "127.0.0.1:9001", (Role.DECODE,), "m", "0.32.0", 2, 1.0)
    await membership.join(younger, 10)
    with pytest.raises(Superseded):
        await serving
    assert await membership.members() == (younger,)


def test_an_error_is_one_last_line_and_the_exit_code_1(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, key_file: Path
) -> None:
    words = ["--model", str(tmp_path / "no\nwhere"), "--worker-id", "w", "--redis", "redis://r"]
    assert main(PROGRAM, [*words, "--fleet-key-file", str(key_file)]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: no model at ")


def test_a_worker_without_a_key_says_how_to_make_one(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BATON_FLEET_KEY_FILE", raising=False)
    assert main(PROGRAM, ["--model", "m", "--worker-id", "w", "--redis", "redis://r"]) == 1
    assert (
        "error: --fleet-key-file is required: `baton key > FILE` makes one"
        in capfd.readouterr().err
    )


def test_a_flag_that_nobody_knows_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(PROGRAM, ["--nonsense"]) == 1
    assert "error: unrecognized arguments: --nonsense" in capfd.readouterr().err
