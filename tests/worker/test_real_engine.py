"""A worker process with a real engine. They run in this order: the last one ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from fleet.block_news import unpack
from fleet.block_watch import BlockWatch
from fleet.member import Member, Role
from fleet.redis_block_log import RedisBlockLog
from fleet.redis_membership import RedisMembership
from fleet.tier import Tier
from gateway.front_half_blocks import BlockNamer
from proto import worker_pb2
from tests.fleet.builders import eventually
from tests.fleet.server import RunningValkey
from tests.proto.builders import KEY, OTHER_KEY, make_ticket
from tests.worker.builders import make_prefill, make_submit
from tests.worker.gateway import Gateway
from tests.worker.plain_wire import Output, decode_outputs, encode_request
from worker.engine_warm_up import warm_up_request, warm_up_samplings
from worker.pieces import LEAST_TOKENS

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
START_SECONDS = 180.0
BLOCK_SIZE = 128
FLEET = "real-engine"
PROMPT = tuple(range(1000, 1200))


@dataclass(frozen=True, slots=True)
class RunningWorker:
    process: subprocess.Popen[bytes]
    member: Member
    log: Path
    redis: str

    def engines(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "EngineCore" in child.name()]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    folder = tmp_path_factory.mktemp("worker")
    with RunningValkey(folder) as valkey:
        process = start(valkey.url, folder / "log")
        try:
            member = asyncio.run(wait_until_joined(valkey.url, process))
            yield RunningWorker(process, member, folder / "log", valkey.url)
        finally:
            process.kill()
            process.wait()


def start(redis: str, log: Path) -> subprocess.Popen[bytes]:
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), lambda line: None)
    command = [sys.executable, "-m", "decode_worker", "--model", str(model), "--redis", redis]
    key_file = log.with_name("fleet.key")
    key_file.touch(mode=0o600)
    key_file.write_text(KEY.to_hex())
    command += ["--fleet", FLEET, "--max-model-len", "1024", "--fleet-key-file", str(key_file)]
    # Less than a step takes: prompts go on by the least pieces beside answers.
    command += ["--itl-goal-seconds", "0.001"]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    with log.open("wb") as out:
        return subprocess.Popen(
            command, cwd=ROOT, env=ours, stdout=out, stderr=out, start_new_session=True
        )


async def wait_until_joined(redis: str, process: subprocess.Popen[bytes]) -> Member:
    async with RedisMembership.connect(redis, FLEET) as membership:
        async with asyncio.timeout(START_SECONDS):
            while not (members := await membership.members()):
                assert process.poll() is None, "the worker has ended"
                await asyncio.sleep(0.1)
    return members[0]


async def finish(gateway: Gateway, request_id: str) -> Output:
    """The request's last output."""
    while True:
        step = (await gateway.read_next("step")).step
        for output in decode_outputs(step.outputs):
            if output.request_id == request_id and output.finish:
                return output


async def test_a_worker_is_what_it_describes(worker: RunningWorker) -> None:
    gateway = Gateway(worker.member.address)
    described = await gateway.stub.Describe(worker_pb2.DescribeRequest())
    assert worker.member.roles == (Role.DECODE,)
    assert described.incarnation == worker.member.incarnation
    assert described.capacity.max_model_len == 1024
    assert described.capacity.num_kv_blocks > 8
    assert described.kv_layout.num_layers == 30
    assert described.transfer_addresses
    await gateway.close()


async def test_what_an_engine_computes_to_get_warm_is_no_work(worker: RunningWorker) -> None:
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    await gateway.submit(make_submit("first", frames=[encode_request(PROMPT)]))
    assert (await finish(gateway, "first")).finish == "length"
    work = worker_pb2.Work()
    while not work.decode_steps:
        await gateway.send(ping=worker_pb2.Ping(nonce=1))
        work = (await gateway.read_next("pong")).pong.load.work
    assert (work.prefill_steps, work.prefill_tokens) == (1, len(PROMPT))
    assert work.mixed_steps == 0
    await gateway.close()


async def test_requests_that_would_harm_the_engine_fail_alone(worker: RunningWorker) -> None:
    harmful = {
        "garbage": b"\xc1 no msgpack",
        "token": encode_request([10**6]),
        "empty": encode_request([]),
        "long": encode_request([5] * 1024),
        "stop": encode_request(PROMPT, stop_token_ids=[10**6]),
        "logprobs": encode_request(PROMPT, logprobs=10**6),
        "endless": encode_request(PROMPT, max_tokens=None),
    }
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    for name, frame in harmful.items():
        await gateway.submit(make_submit(name, frames=[frame]))
        failure = (await gateway.read_next("failure")).failure
        assert (failure.request_id, failure.code) == (name, "bad_request")
        assert "1000000" not in failure.message
    await gateway.submit(make_submit("good", frames=[encode_request(PROMPT)]))
    assert (await finish(gateway, "good")).finish == "length"
    await gateway.close()


async def test_a_clients_own_transfer_parameters_are_ignored(worker: RunningWorker) -> None:
    mine = {"kv_transfer_params": {"leg": "decode", "ticket": b"", "lease_seconds": -1}}
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    await gateway.submit(make_submit("r", frames=[encode_request(PROMPT, extra_args=mine)]))
    assert (await finish(gateway, "r")).finish == "length"
    await gateway.close()


async def test_a_prefill_leg_is_not_for_a_decode_worker(worker: RunningWorker) -> None:
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    await gateway.submit(make_prefill(ticket=make_ticket()))
    assert (await gateway.read_next("failure")).failure.code == "role_not_served"
    await gateway.close()


async def test_bad_tickets_are_refused_and_the_prompts_computed(worker: RunningWorker) -> None:
    gateway = Gateway(worker.member.address)
    us = await gateway.stub.Describe(worker_pb2.DescribeRequest())
    await gateway.greet(worker.member.vllm_version)
    # It never fetches from this peer, so it may be itself.
    peer = worker_pb2.Introduce(
        worker_id="peer",
        incarnation="abc",
        transfer_addresses=us.transfer_addresses,
        kv_layout=us.kv_layout,
    )
    await gateway.send(introduce=peer)
    ticket = make_ticket(
        source_worker="peer",
        source_addresses=tuple(us.transfer_addresses),
        model_fingerprint=us.model_fingerprint,
        layout_fingerprint=us.kv_layout.fingerprint,
    )
    for name, shown, code in (
        ("forged", ticket.signed(OTHER_KEY), "ticket_forged"),
        ("foreign", ticket, "ticket_foreign_prompt"),
        ("used", ticket, "ticket_used"),
    ):
        await gateway.submit(make_submit(name, ticket=shown, frames=[encode_request(PROMPT)]))
        refused = (await gateway.read_next("ticket_refused")).ticket_refused
        assert (refused.request_id, refused.code) == (name, code)
        assert (await finish(gateway, name)).finish == "length"
    await gateway.send(ping=worker_pb2.Ping(nonce=1))
    tickets = (await gateway.read_next("pong")).pong.load.tickets
    assert (tickets.num_open, sum(tickets.refused.values())) == (0, 3)
    await gateway.close()


async def test_a_lost_session_frees_its_blocks(worker: RunningWorker) -> None:
    gone, stays = Gateway(worker.member.address), Gateway(worker.member.address)
    await gone.greet(worker.member.vllm_version)
    await stays.greet(worker.member.vllm_version)
    await gone.submit(make_submit("r", frames=[encode_request(PROMPT, max_tokens=800)]))
    await gone.read_next("step")
    gone.vanish()

    async def is_free() -> bool:
        await stays.send(ping=worker_pb2.Ping(nonce=1))
        load = (await stays.read_next("pong")).pong.load
        return load.num_kv_blocks > 0 == load.num_kv_blocks_used

    await eventually(is_free)
    await gone.close()
    await stays.close()


async def test_the_fleet_knows_its_blocks_by_the_names_that_a_gateway_gives_them(
    worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in every gateway (gateway/start.py).
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    key = f"{worker.member.worker_id}/{worker.member.incarnation}"
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    salted = encode_request(PROMPT, cache_salt="salt")
    await gateway.submit(make_submit("plain", frames=[encode_request(PROMPT)]))
    await finish(gateway, "plain")
    await gateway.submit(make_submit("salted", frames=[salted]))
    await finish(gateway, "salted")
    expected = {named(PROMPT), named(PROMPT, cache_salt="salt")}
    assert len(expected) == 2
    async with RedisBlockLog.connect(worker.redis, FLEET) as log:
        watch = BlockWatch(log)
        watch.meet(key)
        watching = asyncio.ensure_future(watch.run())

        async def is_known() -> bool:
            row = watch.replica.rows[key]
            found = (watch.replica.match(np.array([each], np.uint64)) for each in expected)
            return all(each.on_device[row] == 1 for each in found)

        await eventually(is_known)
        watching.cancel()
        await asyncio.wait([watching])
        held = watch.replica.table.num_held(watch.replica.rows[key], Tier.DEVICE)
    await gateway.send(list_blocks=worker_pb2.ListBlocks(nonce=7))
    answer = (await gateway.read_next("held_blocks")).held_blocks
    keys = set(unpack(answer.keys).tolist())
    assert answer.nonce == 7
    assert expected <= keys
    assert len(keys) == held
    await gateway.close()


def named(prompt: Sequence[int], cache_salt: str | None = None) -> int:
    """The first block of a prompt."""
    request = warm_up_request("r", warm_up_samplings()[0])
    request.prompt_token_ids, request.cache_salt = list(prompt), cache_salt
    (first, *_) = BlockNamer().keys(request, [BLOCK_SIZE])[BLOCK_SIZE]
    return int(first)


async def test_its_work_is_counted(worker: RunningWorker) -> None:
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    before = await work_of(gateway)
    prompt = tuple(range(2000, 2300))
    for name in ("first", "again"):
        await gateway.submit(make_submit(name, frames=[encode_request(prompt, max_tokens=5)]))
        await finish(gateway, name)
    after = await work_of(gateway, num_decode_tokens=before.decode_tokens + 2 * 4)
    cached = 300 // BLOCK_SIZE * BLOCK_SIZE
    assert after.prefill_steps - before.prefill_steps == 2
    assert after.prefill_tokens - before.prefill_tokens == 300 + 300 - cached
    assert after.cached_tokens - before.cached_tokens == cached
    assert after.decode_tokens - before.decode_tokens == 2 * 4
    assert after.prefill_seconds > before.prefill_seconds
    assert after.decode_seconds > before.decode_seconds
    await gateway.close()


async def test_beside_an_answer_a_prompt_comes_in_pieces(worker: RunningWorker) -> None:
    gateway = Gateway(worker.member.address)
    await gateway.greet(worker.member.vllm_version)
    so_far = (await work_of(gateway)).decode_tokens
    answer = encode_request(range(10, 40), max_tokens=400)
    await gateway.submit(make_submit("answer", frames=[answer]))
    await work_of(gateway, num_decode_tokens=so_far + 3)
    # How long a token takes is learned from the first one.
    for name, prompt in (("first", range(3000, 3300)), ("next", range(4000, 4300))):
        before = await work_of(gateway)
        await gateway.submit(make_submit(name, frames=[encode_request(prompt, max_tokens=1)]))
        await finish(gateway, name)
        counted = before.mixed_prefill_tokens + len(prompt)
        after = await work_of(gateway, num_mixed_prefill_tokens=counted)
    assert after.mixed_steps - before.mixed_steps >= 300 // LEAST_TOKENS
    assert after.mixed_prefill_tokens == counted
    await gateway.send(abort=worker_pb2.Abort(request_ids=["answer"]))
    await gateway.close()


async def work_of(
    gateway: Gateway, num_decode_tokens: int = 0, num_mixed_prefill_tokens: int = 0
) -> worker_pb2.Work:
    """Once so much is counted: an answer may be there before its last step is."""
    while True:
        await gateway.send(ping=worker_pb2.Ping(nonce=1))
        work = (await gateway.read_next("pong")).pong.load.work
        if (
            work.decode_tokens >= num_decode_tokens
            and work.mixed_prefill_tokens >= num_mixed_prefill_tokens
        ):
            return work


def test_a_dead_engine_ends_the_worker_with_one_line(worker: RunningWorker) -> None:
    engines = worker.engines()
    os.kill(engines[0].pid, signal.SIGKILL)
    assert worker.process.wait(timeout=20) == 1
    assert not any(engine.is_running() for engine in engines)
    last = worker.log.read_text().splitlines()[-1]
    assert last.startswith("error: the engine has died: its process was killed")
