"""The ticket: the right to fetch the KV of one prompt from one worker, once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from proto import worker_pb2

TICKET_BYTES = 16


@dataclass(frozen=True, slots=True)
class Ticket:
    """One hand-off from one prefill worker's incarnation.

    `lease_seconds` bounds how long either side keeps anything for it.
    """

    id: bytes
    source_worker: str
    source_incarnation: str
    source_addresses: tuple[bytes, ...]
    lease_seconds: float

    @classmethod
    def issue(
        cls,
        source_worker: str,
        source_incarnation: str,
        source_addresses: tuple[bytes, ...],
        lease_seconds: float,
    ) -> Ticket:
        """A new ticket with 128 random bits for a name."""
        return cls(
            secrets.token_bytes(TICKET_BYTES),
            source_worker,
            source_incarnation,
            source_addresses,
            lease_seconds,
        )

    @classmethod
    def from_proto(cls, message: worker_pb2.Ticket) -> Ticket:
        """Raises ValueError if the message is not a well-formed ticket."""
        if len(message.id) != TICKET_BYTES:
            raise ValueError(f"a ticket id has {TICKET_BYTES} bytes, not {len(message.id)}")
        if not message.source_addresses:
            raise ValueError("a ticket names at least one source address")
        if not 0 < message.lease_seconds < float("inf"):
            raise ValueError("a ticket's lease_seconds is positive and finite")
        return cls(
            message.id,
            message.source_worker,
            message.source_incarnation,
            tuple(message.source_addresses),
            message.lease_seconds,
        )

    def to_proto(self) -> worker_pb2.Ticket:
        return worker_pb2.Ticket(
            id=self.id,
            source_worker=self.source_worker,
            source_incarnation=self.source_incarnation,
            source_addresses=self.source_addresses,
            lease_seconds=self.lease_seconds,
        )

    def __repr__(self) -> str:
        return f"<Ticket {self.id.hex()[:8]} from {self.source_worker}>"
