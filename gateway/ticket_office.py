"""Where tickets come from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.request import Request
from gateway.routing.facts import WorkerFacts
from proto.fleet_key import FleetKey
from proto.ticket import Ticket


@dataclass(frozen=True, slots=True)
class TicketOffice:
    """Issues tickets under the fleet's key. `clock` is in Unix seconds."""

    key: FleetKey
    lease_seconds: float
    clock: Callable[[], float] = time.time

    def issue(self, source: WorkerFacts, request: Request) -> Ticket:
        """For the KV of the request's whole prompt, out of `source`."""
        ticket = Ticket(
            id=Ticket.new_id(),
            source_worker=source.worker_id,
            source_incarnation=source.incarnation,
            source_addresses=source.transfer_addresses,
            model_fingerprint=source.model_fingerprint,
            layout_fingerprint=source.layout.fingerprint,
            prompt_digest=request.prompt_digest,
            num_tokens=request.num_prompt_tokens,
            expires_at=self.clock() + self.lease_seconds,
            lease_seconds=self.lease_seconds,
        )
        return ticket.signed(self.key)
