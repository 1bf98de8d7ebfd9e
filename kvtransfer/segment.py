"""A segment: a run of one prompt's tokens in one layer, on its way between two caches.

On the wire a segment is one message, a fixed header and then the payload: the tokens' blocks
in order, each as the attention backend lays it out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kvtransfer.errors import MalformedMessage
from kvtransfer.staging import Slot

_FORMAT = struct.Struct("<4s16sIIIQ24x")
_MAGIC = b"BKV1"
HEADER_BYTES = _FORMAT.size


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [first_token, first_token + num_tokens) of the prompt, in layer `layer`."""

    ticket: bytes
    layer: int
    first_token: int
    num_tokens: int
    payload_bytes: int

    @property
    def end_token(self) -> int:
        return self.first_token + self.num_tokens

    def write_header(self, buffer: Slot) -> None:
        """Puts the header into the first HEADER_BYTES of `buffer`."""
        _FORMAT.pack_into(
            buffer.data,
            0,
            _MAGIC,
            self.ticket,
            self.layer,
            self.first_token,
            self.num_tokens,
            self.payload_bytes,
        )

    @classmethod
    def read(cls, message: Slot) -> Segment:
        """Raises MalformedMessage unless header and message length agree."""
        if len(message) < HEADER_BYTES:
            raise MalformedMessage(f"a segment of {len(message)} bytes has no header")
        magic, ticket, layer, first_token, num_tokens, payload_bytes = _FORMAT.unpack_from(
            message.data
        )
        if magic != _MAGIC:
            raise MalformedMessage("a segment without our magic number")
        if payload_bytes != len(message) - HEADER_BYTES:
            raise MalformedMessage(
                f"a segment claims {payload_bytes} bytes and carries {len(message) - HEADER_BYTES}"
            )
        return cls(ticket, layer, first_token, num_tokens, payload_bytes)
