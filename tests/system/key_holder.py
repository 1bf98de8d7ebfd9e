"""Somebody who has a fleet's key: sessions with its workers, and tickets of his own making."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.prompt_digest import prompt_digest
from proto.ticket import Ticket
from tests.proto.builders import Prompt
from tests.system.live_fleet import LiveFleet
from tests.worker.gateway import Gateway


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """In session with a prefill worker, the `source`, and a decode worker that knows it."""

    prefill: Gateway
    decode: Gateway
    source: worker_pb2.Description
    key: FleetKey

    def ticket(self, prompt: tuple[int, ...]) -> Ticket:
        """A good one."""
        ticket = Ticket(
            id=Ticket.new_id(),
            source_worker=self.source.worker_id,
            source_incarnation=self.source.incarnation,
            source_addresses=tuple(self.source.transfer_addresses),
            model_fingerprint=self.source.model_fingerprint,
            layout_fingerprint=self.source.kv_layout.fingerprint,
            prompt_digest=prompt_digest(Prompt(prompt)),
            num_tokens=len(prompt),
            expires_at=time.time() + 60.0,
            lease_seconds=60.0,
        )
        return ticket.signed(self.key)


@asynccontextmanager
async def key_holder(fleet: LiveFleet) -> AsyncIterator[KeyHolder]:
    report, key = fleet.report(), FleetKey.read(fleet.folder.fleet_key)
    prefill, decode = Gateway(report.prefill.address), Gateway(report.decode.address)
    try:
        source = await prefill.stub.Describe(worker_pb2.DescribeRequest())
        for gateway in (prefill, decode):
            await gateway.greet(source.vllm_version, key)
        introduction = worker_pb2.Introduce(
            worker_id=source.worker_id,
            incarnation=source.incarnation,
            transfer_addresses=source.transfer_addresses,
            kv_layout=source.kv_layout,
        )
        await decode.send(introduce=introduction)
        yield KeyHolder(prefill, decode, source, key)
    finally:
        await prefill.close()
        await decode.close()
