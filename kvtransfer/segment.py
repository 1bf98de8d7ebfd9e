"""A segment: some blocks of one prompt in one layer, on the way between two caches.

On the wire a segment is one message, a fixed header and then the payload: the receiver's
blocks in order, of each the heads in order, in the form that `wire` names. The checksum is
XXH3 (64 bits, https://xxhash.com) over the rest of the header and the payload's hash, with a
seed that only the fleet knows and that each ticket has another of.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import xxhash

from kvtransfer.errors import MalformedMessage
from kvtransfer.hashing import Hashing, hash_of
from kvtransfer.staging import Slot
from kvtransfer.wire import CODES, FORMATS, WireFormat

_FORMAT = struct.Struct("<4s16sIIIHHBBxxQ8x")
_CHECKSUM = struct.Struct("<Q")
_MAGIC = b"BKV2"
_CHECKED_BYTES = _FORMAT.size
HEADER_BYTES = 64
_HASHING_AT = 37


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
    hashing: Hashing = Hashing.XXH3

    @property
    def end_block(self) -> int:
        return self.first_block + self.num_blocks

    @property
    def heads(self) -> range:
        return range(self.first_head, self.first_head + self.num_heads)

    def seal(self, message: Slot, seed: int) -> None:
        """Puts the header before the payload, which must be complete."""
        payload_hash = hash_of(message[HEADER_BYTES:], self.hashing, seed)
        message[:HEADER_BYTES] = np.frombuffer(self.header(payload_hash, seed), np.uint8)

    def header(self, payload_hash: int, seed: int) -> bytes:
        """HEADER_BYTES."""
        fields = _FORMAT.pack(
            _MAGIC,
            self.ticket,
            self.layer,
            self.first_block,
            self.num_blocks,
            self.first_head,
            self.num_heads,
            CODES[self.wire],
            self.hashing,
            self.payload_bytes,
        )
        return fields + _CHECKSUM.pack(_checksum(fields, payload_hash, seed))

    @classmethod
    def read(cls, message: Slot) -> Segment:
        """Raises MalformedMessage unless header and message length agree."""
        return cls.of_header(message[:HEADER_BYTES].tobytes(), len(message) - HEADER_BYTES)

    @classmethod
    def of_header(cls, header: bytes, payload_bytes: int) -> Segment:
        """Raises MalformedMessage unless it is the header of such a payload."""
        if len(header) < HEADER_BYTES:
            raise MalformedMessage(f"a segment of {len(header)} bytes has no header")
        magic, ticket, *place, wire, hashing, claimed_bytes = _FORMAT.unpack_from(header)
        if magic != _MAGIC:
            raise MalformedMessage("a segment without our magic number")
        if wire not in FORMATS or hashing not in list(Hashing):
            raise MalformedMessage(f"a segment of an unknown form ({wire}, {hashing})")
        if claimed_bytes != payload_bytes:
            raise MalformedMessage(
                f"a segment claims {claimed_bytes} bytes and carries {payload_bytes}"
            )
        layer, first_block, num_blocks, first_head, num_heads = place
        return cls(
            ticket,
            layer,
            first_block,
            num_blocks,
            first_head,
            num_heads,
            payload_bytes,
            FORMATS[wire],
            Hashing(hashing),
        )


def is_intact(message: Slot, seed: int) -> bool:
    """Whether a segment that has been read is what its sender sealed."""
    header = message[:HEADER_BYTES].tobytes()
    hashing = Hashing(header[_HASHING_AT])
    return is_sealed(header, hash_of(message[HEADER_BYTES:], hashing, seed), seed)


def is_sealed(header: bytes, payload_hash: int, seed: int) -> bool:
    """Whether the header's checksum fits the header and the hash of the payload."""
    (found,) = _CHECKSUM.unpack_from(header, _CHECKED_BYTES)
    return bool(found == _checksum(header[:_CHECKED_BYTES], payload_hash, seed))


def _checksum(fields: bytes, payload_hash: int, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(fields + _CHECKSUM.pack(payload_hash), seed)
