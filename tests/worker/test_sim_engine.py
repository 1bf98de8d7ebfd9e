"""The simulated engine behind real sessions, in vLLM's own words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.utils.hashing import sha256_cbor
from vllm.v1.core.kv_cache_utils import get_request_block_hasher
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.request import Request
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from proto import worker_pb2
from proto.block_key import block_key
from proto.prompt_digest import prompt_digest
from proto.ticket import Ticket
from tests.fleet.builders import eventually
from tests.proto.builders import KEY, LAYOUT, make_ticket
from tests.worker.builders import make_prefill, make_submit
from tests.worker.gateway import Gateway
from tests.worker.sim_stage import ANSWERS
from worker.description import describe
from worker.engine_codec import SimCodec
from worker.hub import Hub
from worker.identity import Identity
from worker.ledger import Ledger
from worker.model_folder import ModelFolder
from worker.process import make_hub
from worker.server import open_server
from worker.servicer import Servicer
from worker.settings import parse
from worker.sim.answer import expected_tokens
from worker.sim.crew import SimWorker, make_crew
from worker.sim.model import SimModel
from worker.sim.pace import Pace
from worker.sim.settings import SimSettings
from worker.sim.timeline import Timeline

FOLDER = ModelFolder(Path("models/tiny"), b"{}", (("model.safetensors", 8),))
MODEL = SimModel(LAYOUT, 400, 2000, ANSWERS)
PROMPT = list(range(1, 101))


@dataclass
class Served:
    worker: SimWorker
    hub: Hub
    gateway: Gateway

    @property
    def introduction(self) -> worker_pb2.Introduce:
        return worker_pb2.Introduce(
            worker_id=self.worker.worker_id,
            incarnation=self.worker.incarnation,
            transfer_addresses=self.worker.engine.facts.transfer_addresses,
            kv_layout=self.worker.engine.facts.kv_layout,
        )

    def ticket(self, prompt: EngineCoreRequest) -> Ticket:
        return make_ticket(
            source_worker=self.worker.worker_id,
            source_incarnation=self.worker.incarnation,
            source_addresses=tuple(self.worker.engine.facts.transfer_addresses),
            model_fingerprint=FOLDER.fingerprint,
            prompt_digest=prompt_digest(prompt),
            num_tokens=len(prompt.prompt_token_ids),
        )


@asynccontextmanager
async def serve_pair() -> AsyncIterator[tuple[Served, Served]]:
    """A prefill and a decode worker, in session with a gateway."""
    words = "--model tiny --redis redis:// --fleet-key-file key --speed 20 --kv-blocks 64"
    settings = parse(SimSettings, "sim", [*words.split(), f"--block-size={LAYOUT.block_size}"])
    timeline = Timeline(time.monotonic)
    codec = SimCodec(LAYOUT.block_size)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(Pace(timeline).run())]
        served = []
        for worker in make_crew(settings, MODEL, codec, "0.32.0", timeline):
            us = Identity(
                worker.worker_id, worker.incarnation, FOLDER.fingerprint, LAYOUT.fingerprint
            )
            hub = make_hub(worker.engine, worker.legs, KEY, us, Ledger())
            running.append(tasks.create_task(hub.run()))
            description = describe(us, worker.roles, FOLDER, worker.engine.facts)
            servicer = Servicer(description, hub, KEY)
            port = await stack.enter_async_context(open_server(servicer, "127.0.0.1", 0))
            gateway = Gateway(f"127.0.0.1:{port}")
            stack.push_async_callback(gateway.close)
            await gateway.greet()
            served.append(Served(worker, hub, gateway))
        prefill, decode = served
        await decode.gateway.send(introduce=prefill.introduction)
        yield prefill, decode
        for each in served:
            each.hub.check_integrity()
        for task in running:
            task.cancel()


def make_request(
    prompt: Sequence[int] = PROMPT, salt: str | None = None, **sampling: object
) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id="r",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=SamplingParams(**{"max_tokens": 20, "ignore_eos": True, **sampling}),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=salt,
        data_parallel_rank=None,
    )


def frames_of(request: EngineCoreRequest) -> list[bytes]:
    return [bytes(frame) for frame in MsgpackEncoder().encode(request)]


async def outputs_of(gateway: Gateway, request_id: str) -> list[EngineCoreOutput]:
    """All of one request."""
    decoder, outputs = MsgpackDecoder(EngineCoreOutputs), list[EngineCoreOutput]()
    while not outputs or outputs[-1].finish_reason is None:
        message = await gateway.read_next("step")
        step = decoder.decode([bytearray(frame) for frame in message.step.outputs])
        outputs += [each for each in step.outputs if each.request_id == request_id]
    return outputs


def tokens_of(outputs: Sequence[EngineCoreOutput]) -> list[int]:
    return [token for output in outputs for token in output.new_token_ids]


async def test_a_request_is_answered_as_vllm_would_say_it() -> None:
    async with serve_pair() as (_, decode):
        await decode.gateway.submit(make_submit("r", frames=frames_of(make_request())))
        outputs = await outputs_of(decode.gateway, "r")
    assert tokens_of(outputs) == expected_tokens(PROMPT, 20, ANSWERS)
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    queued, scheduled = outputs[0].events
    assert queued.timestamp <= scheduled.timestamp
    assert outputs[0].prefill_stats.num_computed_tokens == 100


async def test_a_stop_token_is_named() -> None:
    stop = expected_tokens(PROMPT, 5, ANSWERS)[4]
    async with serve_pair() as (_, decode):
        request = make_request(stop_token_ids=[stop])
        await decode.gateway.submit(make_submit("r", frames=frames_of(request)))
        last = (await outputs_of(decode.gateway, "r"))[-1]
    assert (last.finish_reason, last.stop_reason) == (FinishReason.STOP, stop)


async def test_kv_is_handed_over() -> None:
    request = make_request()
    async with serve_pair() as (prefill, decode):
        await decode.hub.report()
        ticket, frames = prefill.ticket(request), frames_of(request)
        await decode.gateway.submit(make_submit("r", ticket=ticket, frames=frames))
        submit = make_prefill("p", ticket=ticket)
        submit.request[:] = frames
        await prefill.gateway.submit(submit)
        assert len(tokens_of(await outputs_of(prefill.gateway, "p"))) == 1
        outputs = await outputs_of(decode.gateway, "r")
        sent, got = await prefill.hub.report(), await decode.hub.report()
    assert tokens_of(outputs) == expected_tokens(PROMPT, 20, ANSWERS)
    num_bytes = 99 * LAYOUT.bytes_per_token
    assert (sent.transfers.sent_bytes, got.transfers.received_bytes) == (num_bytes, num_bytes)
    assert (sent.transfers.sends_completed, got.transfers.loads_completed) == (1, 1)
    assert outputs[0].prefill_stats.num_external_cached_tokens == 99


async def test_a_revoked_ticket_costs_time_alone() -> None:
    request = make_request()
    async with serve_pair() as (prefill, decode):
        ticket = prefill.ticket(request)
        await decode.gateway.submit(make_submit("r", ticket=ticket, frames=frames_of(request)))
        revoke = worker_pb2.Revoke(ticket_id=ticket.id, reason="lost")
        await decode.gateway.send(revoke=revoke)
        outputs = await outputs_of(decode.gateway, "r")
    assert tokens_of(outputs) == expected_tokens(PROMPT, 20, ANSWERS)
    assert outputs[0].prefill_stats.num_external_cached_tokens == 0


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        pytest.param({"logprobs": 1}, "logprobs: not supported", id="logprobs"),
        pytest.param(
            {"structured_outputs": StructuredOutputsParams(regex="a")},
            "structured output: not supported",
            id="structured",
        ),
    ],
)
async def test_what_is_not_simulated_is_refused(sampling: dict[str, Any], words: str) -> None:
    async with serve_pair() as (_, decode):
        request = make_request(**sampling)
        await decode.gateway.submit(make_submit("r", frames=frames_of(request)))
        failure = (await decode.gateway.read_next("failure")).failure
    assert failure.code == "bad_request"
    assert words in failure.message


@pytest.mark.parametrize("salt", [None, "pepper"])
async def test_blocks_are_named_as_vllm_names_them_and_told_of(salt: str | None) -> None:
    async with serve_pair() as (_, decode):
        engine = decode.worker.engine
        told = asyncio.ensure_future(anext(aiter(engine.block_changes())))
        await asyncio.sleep(0)
        request = make_request(salt=salt)
        await decode.gateway.submit(make_submit("r", frames=frames_of(request)))
        outputs = await outputs_of(decode.gateway, "r")
        (change,) = await told
        held = await engine.held_blocks()
    answered = make_request([*PROMPT, *tokens_of(outputs)[:-1]], salt)
    hasher = get_request_block_hasher(LAYOUT.block_size, sha256_cbor)
    hashes = Request.from_engine_core_request(answered, hasher).block_hashes
    assert list(held) == [block_key(each) for each in hashes]
    assert list(change.keys) == list(held)[: len(change.keys)]


async def test_an_abort_frees_all_blocks() -> None:
    async with serve_pair() as (_, decode):
        request = make_request(max_tokens=250)
        await decode.gateway.submit(make_submit("r", frames=frames_of(request)))
        await decode.gateway.read_next("step")
        await decode.gateway.send(abort=worker_pb2.Abort(request_ids=["r"]))

        async def is_free() -> bool:
            return not (await decode.hub.report()).num_kv_blocks_used

        await eventually(is_free)
