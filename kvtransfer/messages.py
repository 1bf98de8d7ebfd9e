"""Control messages between the transfer threads of two workers (msgpack, tagged arrays)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from kvtransfer.errors import MalformedMessage

MAX_CONTROL_BYTES = 8192
MAX_REASON_CHARS = 512

TicketId = Annotated[bytes, Meta(min_length=16, max_length=16)]
TokenCount = Annotated[int, Meta(ge=0, le=1 << 31)]


class Demand(msgspec.Struct, frozen=True, array_like=True, tag="demand"):
    """Decode to prefill: send me these prompt tokens' KV; everything before I have.

    `num_tokens` may be 0: the ticket is used and nothing needs to be sent. A segment of more
    than `max_segment_tokens` would find no room.
    """

    ticket: TicketId
    reply_address: Annotated[bytes, Meta(max_length=4096)]
    fingerprint: Annotated[str, Meta(max_length=64)]
    first_token: TokenCount
    num_tokens: TokenCount
    max_segment_tokens: TokenCount


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Decode to prefill: the KV of this ticket is wanted no more."""

    ticket: TicketId


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag="refuse"):
    """Prefill to decode: this ticket's KV will not come."""

    ticket: TicketId
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)]


Message = Demand | Cancel | Refuse

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Raises MalformedMessage for anything that is not one of our messages."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"control message of {len(data)} bytes: {error}") from error
