"""What only members of the fleet can make: authentic messages, and the seeds of checksums."""

from __future__ import annotations

import hashlib
import hmac

from kvtransfer.errors import MalformedMessage
from proto.fleet_key import FleetKey

MAC_BYTES = 16
_SEED_BYTES = 8


class Seal:
    """Keyed BLAKE2b (RFC 7693) under subkeys of the fleet key."""

    def __init__(self, key: FleetKey) -> None:
        self._control = key.derive("kvtransfer control")
        self._segment = key.derive("kvtransfer segment")

    def close(self, data: bytes) -> bytes:
        """The message with its MAC before it."""
        return self._mac(data) + data

    def open(self, message: bytes) -> bytes:
        """Raises MalformedMessage unless the fleet's key has made it."""
        mac, data = message[:MAC_BYTES], message[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(data)):
            raise MalformedMessage(f"a message of {len(message)} bytes that is not the fleet's")
        return data

    def seed(self, ticket: bytes) -> int:
        """64 bits, unknown outside of the fleet, for the checksums of one ticket's segments."""
        digest = hashlib.blake2b(ticket, key=self._segment, digest_size=_SEED_BYTES).digest()
        return int.from_bytes(digest)

    def _mac(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._control, digest_size=MAC_BYTES).digest()
