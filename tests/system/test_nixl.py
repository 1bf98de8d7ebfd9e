"""The same fleet with vLLM's NixlConnector in the place of Baton's transfer."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from proto import worker_pb2
from proto.ticket import Ticket
from tests.system.exchange import calling
from tests.system.key_holder import KeyHolder, key_holder
from tests.system.live_fleet import START_SECONDS, LiveFleet
from tests.system.plain_engine import Answers
from tests.system.prompts import AT_ONCE, CHUNK_TOKENS, LOST, MATRIX, Prompt, random_ids
from tests.system.waiting import wait_until
from tests.worker.plain_wire import Output, decode_outputs, encode_request

pytestmark = [pytest.mark.long, pytest.mark.system, pytest.mark.timeout(300)]

LENGTHS = ("length-2", "length-127", "length-128", "length-129", "length-640", "length-2048")
PROMPT = tuple(range(2000, 2300))
# An engine cannot be stopped within a step.
HALF_CHUNK = CHUNK_TOKENS // 2
PATIENCE_SECONDS = 30.0


@pytest.mark.parametrize("name", LENGTHS)
def test_tokens_are_those_of_plain_vllm_and_the_kv_was_pulled(
    nixl_fleet: LiveFleet, reference: Answers, name: str
) -> None:
    fleet = nixl_fleet
    (prompt,) = (replace(each, salt=name) for each in MATRIX if each.name == name)
    before = fleet.report().decode.load.transfers
    answer = fleet.complete(prompt)
    after = fleet.report().decode.load.transfers
    assert answer.ids == reference.prompts[name].ids
    assert after.loads_completed == before.loads_completed + 1
    assert after.received_bytes > before.received_bytes
    assert after.loads_failed == before.loads_failed


def test_eight_at_once_are_each_answered_as_alone(
    nixl_fleet: LiveFleet, reference: Answers
) -> None:
    prompts = [replace(prompt, salt="at once") for prompt in AT_ONCE]
    before = nixl_fleet.report()
    with ThreadPoolExecutor(len(prompts)) as threads:
        answers = list(threads.map(nixl_fleet.complete, prompts))
    assert [a.ids for a in answers] == [reference.prompts[p.name].ids for p in prompts]
    nixl_fleet.wait_until_free(before.sends_ended + len(prompts))


@pytest.mark.parametrize("num_events", [0, 4], ids=["during-prefill", "during-decode"])
def test_after_a_client_hung_up_both_sides_are_free(nixl_fleet: LiveFleet, num_events: int) -> None:
    fleet, before = nixl_fleet, nixl_fleet.report()
    name = f"nixl freed after {num_events}"
    prompt = Prompt(name, random_ids(name, HALF_CHUNK), max_tokens=200)
    with calling(f"{fleet.url}/v1/completions", fleet.body(prompt, stream=True)) as caller:
        wait_until(lambda: bool(fleet.report().holds), PATIENCE_SECONDS)
        caller.read_events(num_events)
    fleet.wait_until_free(before.sends_ended + 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """Sessions with both workers of a fleet, by one who has its key."""

    holder: KeyHolder

    def ticket(self) -> Ticket:
        """A good one, for PROMPT."""
        return self.holder.ticket(PROMPT)

    async def compute(self, name: str, ticket: Ticket) -> tuple[str, Any]:
        """The code of a refusal, and what the prefill worker says of the KV."""
        await self.holder.prefill.submit(make_submit(name, worker_pb2.ROLE_PREFILL, ticket))
        while True:
            message = await self.holder.prefill.read()
            if message.HasField("failure"):
                return message.failure.code, None
            for output in outputs_of(message):
                if output.finish:
                    return "", output.transfer_params

    async def answer(self, name: str, ticket: Ticket, said: Any) -> tuple[str, tuple[int, ...]]:
        """The code of a refusal, and the tokens."""
        submit = make_submit(name, worker_pb2.ROLE_DECODE, ticket)
        submit.transfer_params = msgspec.msgpack.encode(said)
        await self.holder.decode.submit(submit)
        code, tokens, is_last = "", list[int](), False
        while not is_last:
            message = await self.holder.decode.read()
            if message.HasField("ticket_refused"):
                code = message.ticket_refused.code
            for output in outputs_of(message):
                tokens += output.tokens
                is_last = bool(output.finish)
        return code, tuple(tokens)


def make_submit(name: str, leg: worker_pb2.Role, ticket: Ticket) -> worker_pb2.Submit:
    frames = [encode_request(PROMPT)]
    return worker_pb2.Submit(request_id=name, leg=leg, request=frames, ticket=ticket.to_proto())


def outputs_of(message: worker_pb2.FromWorker) -> list[Output]:
    return decode_outputs(message.step.outputs) if message.HasField("step") else []


@asynccontextmanager
async def paired(fleet: LiveFleet) -> AsyncIterator[Pair]:
    async with key_holder(fleet) as holder:
        yield Pair(holder)


async def test_a_ticket_is_good_once_and_for_its_own_kv(nixl_fleet: LiveFleet) -> None:
    before = nixl_fleet.report()
    async with paired(nixl_fleet) as pair:
        ticket = pair.ticket()
        assert pair.holder.source.kv_connector == "nixl"
        code, said = await pair.compute("good", ticket)
        assert code == ""
        code, tokens = await pair.answer("good", ticket, said)
        assert code == ""
        assert await pair.compute("again", ticket) == ("ticket_used", None)
        assert await pair.answer("again", ticket, said) == ("ticket_used", tokens)
        forged = replace(pair.ticket(), lease_seconds=59.0)
        assert await pair.compute("forged", forged) == ("ticket_forged", None)
        assert await pair.answer("forged", forged, said) == ("ticket_forged", tokens)
        for name, wrong in wrongs_of(said).items():
            found = await pair.answer(name, pair.ticket(), wrong)
            assert found == ("ticket_foreign_transfer", tokens), name
    nixl_fleet.wait_until_free(before.sends_ended + 1)
    loads = [each.decode.load.transfers.loads_completed for each in (before, nixl_fleet.report())]
    assert loads[1] - loads[0] == 1


def wrongs_of(said: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a prefill worker would not say."""
    return {
        "nothing": {},
        "another engine": {**said, "remote_engine_id": "another"},
        "another port": {**said, "remote_port": said["remote_port"] + 1},
        "too little": {**said, "remote_num_tokens": len(PROMPT) - 1},
        "no blocks": {**said, "remote_block_ids": [["x"]]},
        "another ticket's": {**said},
        "unsigned": {**said, "mac": b""},
    }


def test_a_prompt_whose_prefill_worker_is_killed_is_answered_right(
    last_of_nixl_fleet: LiveFleet, reference: Answers
) -> None:
    fleet = last_of_nixl_fleet
    before = fleet.report()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(fleet.complete, LOST)
        wait_until(lambda: bool(fleet.report().prefill.holds), PATIENCE_SECONDS)
        os.kill(fleet.pid("prefill-0"), signal.SIGKILL)
        assert answer.result(PATIENCE_SECONDS).ids == reference.prompts[LOST.name].ids
    wait_until(lambda: not fleet.report().decode.holds, 2.0)

    wait_until(lambda: has_another(fleet, before.prefill.incarnation), START_SECONDS)
    loads = fleet.report().decode.load.transfers.loads_completed
    fleet.complete(Prompt("nixl again", random_ids("nixl again", 300)))
    assert fleet.report().decode.load.transfers.loads_completed == loads + 1


def has_another(fleet: LiveFleet, incarnation: str) -> bool:
    return any(
        each.role == "prefill" and each.state == "ready" and each.incarnation != incarnation
        for each in fleet.report().workers
    )
