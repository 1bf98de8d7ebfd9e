"""Whoever shows a ticket that is not good gets no KV, and the right tokens all the same."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.ticket import Ticket
from tests.system.key_holder import key_holder
from tests.system.live_fleet import LiveFleet
from tests.worker.gateway import Gateway
from tests.worker.plain_wire import decode_outputs, encode_request

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PROMPT = tuple(range(2000, 2200))
OTHER_PROMPT = tuple(range(3000, 3200))


@dataclass(frozen=True, slots=True)
class Pair:
    """Sessions with both workers of a fleet, by one who has its key."""

    prefill: Gateway
    decode: Gateway
    ticket: Ticket

    async def run(self, name: str, ticket: Ticket, prompt: tuple[int, ...]) -> Ending:
        frames = [encode_request(prompt)]
        message = ticket.to_proto()
        decode = worker_pb2.Submit(
            request_id=name, leg=worker_pb2.ROLE_DECODE, request=frames, ticket=message
        )
        prefill = worker_pb2.Submit(
            request_id=name, leg=worker_pb2.ROLE_PREFILL, request=frames, ticket=message
        )
        await self.decode.submit(decode)
        await self.prefill.submit(prefill)
        prefill_code = await prefill_ending(self.prefill)
        return await decode_ending(self.decode, name, prefill_code)


@dataclass(frozen=True, slots=True)
class Ending:
    """The codes are empty where the ticket was taken."""

    prefill_code: str
    decode_code: str
    tokens: tuple[int, ...]


async def prefill_ending(gateway: Gateway) -> str:
    while True:
        message = await gateway.read()
        if message.HasField("failure"):
            return message.failure.code
        if message.HasField("step"):
            return ""


async def decode_ending(gateway: Gateway, name: str, prefill_code: str) -> Ending:
    code, tokens, finish = "", list[int](), None
    while finish is None:
        message = await gateway.read()
        if message.HasField("ticket_refused"):
            code = message.ticket_refused.code
        for output in decode_outputs(message.step.outputs) if message.HasField("step") else ():
            assert output.request_id == name
            tokens += output.tokens
            finish = output.finish
    return Ending(prefill_code, code, tuple(tokens))


@asynccontextmanager
async def paired(fleet: LiveFleet) -> AsyncIterator[Pair]:
    async with key_holder(fleet) as holder:
        yield Pair(holder.prefill, holder.decode, holder.ticket(PROMPT))


async def test_a_ticket_moves_its_prompts_kv_once(fleet: LiveFleet) -> None:
    key, before = FleetKey.read(fleet.folder.fleet_key), fleet.report()
    async with paired(fleet) as pair:
        good = pair.ticket
        taken = await pair.run("good", good, PROMPT)
        assert (taken.prefill_code, taken.decode_code) == ("", "")
        again = await pair.run("again", good, PROMPT)
        assert again == Ending("ticket_used", "ticket_used", taken.tokens)
        fresh = replace(good, id=Ticket.new_id())
        expired = replace(fresh, expires_at=time.time() - 60.0).signed(key)
        former = replace(fresh, source_incarnation="former").signed(key)
        for name, ticket, prompt, code in (
            ("forged", replace(fresh, num_tokens=1), PROMPT, "ticket_forged"),
            ("expired", expired, PROMPT, "ticket_expired"),
            ("former", former, PROMPT, "ticket_foreign_worker"),
            ("foreign", fresh.signed(key), OTHER_PROMPT, "ticket_foreign_prompt"),
        ):
            ending = await pair.run(name, ticket, prompt)
            assert (ending.prefill_code, ending.decode_code) == (code, code)
            assert (ending.tokens == taken.tokens) == (prompt == PROMPT)
    fleet.wait_until_free(before.sends_ended + 1)
    after = fleet.report()
    loads = [each.decode.load.transfers.loads_completed for each in (before, after)]
    assert loads[1] - loads[0] == 1
    metrics = fleet.metrics()
    for cause in ("used", "forged", "expired", "foreign_worker", "foreign_prompt"):
        for worker in (after.prefill, after.decode):
            labels = f'cause="{cause}",worker="{worker.worker_id}"'
            assert metrics.value("baton_worker_tickets_refused_total", labels) == 1
            assert worker.load.tickets.refused[cause] == 1
