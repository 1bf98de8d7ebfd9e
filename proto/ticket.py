"""The ticket: the right to fetch the KV of one prompt from one worker, once."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace

from proto import worker_pb2
from proto.canonical import encode
from proto.fleet_key import FleetKey
from proto.prompt_digest import DIGEST_BYTES

TICKET_BYTES = 16
MAX_ADDRESSES = 1024
MAX_ADDRESS_BYTES = 4096
MAX_LEASE_SECONDS = 3600.0
PURPOSE = "ticket"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One hand-off of one prompt's KV, out of one prefill worker's incarnation.

    It covers the `num_tokens` tokens of the prompt with `prompt_digest`. It is taken until
    `expires_at` (Unix seconds); `lease_seconds` bounds how long either side then keeps
    anything for it. `mac` is the fleet's, over all other fields.
    """

    id: bytes
    source_worker: str
    source_incarnation: str
    source_addresses: tuple[bytes, ...]
    model_fingerprint: str
    layout_fingerprint: str
    prompt_digest: bytes
    num_tokens: int
    expires_at: float
    lease_seconds: float
    mac: bytes = b""

    @staticmethod
    def new_id() -> bytes:
        """128 random bits."""
        return secrets.token_bytes(TICKET_BYTES)

    @property
    def source(self) -> str:
        """ "worker_id/incarnation"."""
        return f"{self.source_worker}/{self.source_incarnation}"

    def signed(self, key: FleetKey) -> Ticket:
        return replace(self, mac=key.sign(PURPOSE, self._content()))

    def is_signed_by(self, key: FleetKey) -> bool:
        return key.is_valid(PURPOSE, self._content(), self.mac)

    @classmethod
    def from_proto(cls, message: worker_pb2.Ticket) -> Ticket:
        """Raises ValueError if the message is not a well-formed ticket; checks no MAC."""
        if problem := malformed(message):
            raise ValueError(problem)
        return cls(
            message.id,
            message.source_worker,
            message.source_incarnation,
            tuple(message.source_addresses),
            message.model_fingerprint,
            message.layout_fingerprint,
            message.prompt_digest,
            message.num_tokens,
            message.expires_at,
            message.lease_seconds,
            message.mac,
        )

    def to_proto(self) -> worker_pb2.Ticket:
        return worker_pb2.Ticket(
            id=self.id,
            source_worker=self.source_worker,
            source_incarnation=self.source_incarnation,
            source_addresses=self.source_addresses,
            model_fingerprint=self.model_fingerprint,
            layout_fingerprint=self.layout_fingerprint,
            prompt_digest=self.prompt_digest,
            num_tokens=self.num_tokens,
            expires_at=self.expires_at,
            lease_seconds=self.lease_seconds,
            mac=self.mac,
        )

    def _content(self) -> bytes:
        addresses = self.source_addresses
        return encode(
            (
                self.id,
                self.source_worker,
                self.source_incarnation,
                len(addresses),
                *addresses,
                self.model_fingerprint,
                self.layout_fingerprint,
                self.prompt_digest,
                self.num_tokens,
                float(self.expires_at),
                float(self.lease_seconds),
            )
        )

    def __repr__(self) -> str:
        return f"<Ticket {self.id.hex()[:8]} from {self.source_worker}>"


def malformed(message: worker_pb2.Ticket) -> str | None:
    """What is wrong with the message as such; None if nothing is."""
    addresses, lease = message.source_addresses, message.lease_seconds
    problems = {
        f"a ticket id has {TICKET_BYTES} bytes": len(message.id) != TICKET_BYTES,
        f"a ticket names 1 to {MAX_ADDRESSES} source addresses": not (
            0 < len(addresses) <= MAX_ADDRESSES
        ),
        f"a source address has 1 to {MAX_ADDRESS_BYTES} bytes": not all(
            0 < len(address) <= MAX_ADDRESS_BYTES for address in addresses
        ),
        f"a lease lasts up to {MAX_LEASE_SECONDS:g} seconds": not 0 < lease <= MAX_LEASE_SECONDS,
        "a ticket expires at some time": not math.isfinite(message.expires_at),
        f"a prompt's digest has {DIGEST_BYTES} bytes": len(message.prompt_digest) != DIGEST_BYTES,
        "a ticket covers at least one token": message.num_tokens < 1,
    }
    return next((problem for problem, is_so in problems.items() if is_so), None)
