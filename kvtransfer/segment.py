"""A segment: some blocks of one prompt in one layer, on the way between two caches.

On the wire a segment is one message, a fixed header and then the payload: the receiver's
blocks in order, of each the heads in order, in the form that `wire` names. The checksum is
XXH3 (64 bits, https://xxhash.com) over the rest of the header and the payload, with a seed
that only the fleet knows and that each ticket has another of.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from kvtransfer.errors import MalformedMessage
from kvtransfer.staging import Slot
from kvtransfer.wire import CODES, FORMATS, WireFormat

_FORMAT = struct.Struct("<4s16sIIIHHBxxxQ8x")
_CHECKSUM = struct.Struct("<Q")
_MAGIC = b"BKV2"
_CHECKED_BYTES = _FORMAT.size
HEADER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """Layers and heads are counted through the model, blocks (the receiver's) from the start
    of the prompt.
    """

    ticket: bytes
    layer: int
    first_block: int
    num_blocks: int
    first_head: int
    num_heads: int
    payload_bytes: int
    wire: WireFormat = WireFormat.RAW

    @property
    def end_block(self) -> int:
        return self.first_block + self.num_blocks

    @property
    def heads(self) -> range:
        return range(self.first_head, self.first_head + self.num_heads)

    def seal(self, message: Slot, seed: int) -> None:
        """Puts the header before the payload, which must be complete."""
        _FORMAT.pack_into(
            message.data,
            0,
            _MAGIC,
            self.ticket,
            self.layer,
            self.first_block,
            self.num_blocks,
            self.first_head,
            self.num_heads,
            CODES[self.wire],
            self.payload_bytes,
        )
        _CHECKSUM.pack_into(message.data, _CHECKED_BYTES, _checksum(message, seed))

    @classmethod
    def read(cls, message: Slot) -> Segment:
        """Raises MalformedMessage unless header and message length agree."""
        if len(message) < HEADER_BYTES:
            raise MalformedMessage(f"a segment of {len(message)} bytes has no header")
        magic, *fields, code, payload_bytes = _FORMAT.unpack_from(message.data)
        if magic != _MAGIC:
            raise MalformedMessage("a segment without our magic number")
        if code not in FORMATS:
            raise MalformedMessage(f"a segment of an unknown wire format ({code})")
        if payload_bytes != len(message) - HEADER_BYTES:
            raise MalformedMessage(
                f"a segment claims {payload_bytes} bytes and carries {len(message) - HEADER_BYTES}"
            )
        return cls(*fields, payload_bytes, FORMATS[code])


def is_intact(message: Slot, seed: int) -> bool:
    """Whether a segment that has been read is what its sender sealed."""
    (found,) = _CHECKSUM.unpack_from(message.data, _CHECKED_BYTES)
    return bool(found == _checksum(message, seed))


def _checksum(message: Slot, seed: int) -> int:
    payload = xxhash.xxh3_64_intdigest(message[HEADER_BYTES:].data, seed)
    header = bytes(message[:_CHECKED_BYTES].data)
    return xxhash.xxh3_64_intdigest(header + _CHECKSUM.pack(payload), seed)
