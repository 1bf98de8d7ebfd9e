"""Control messages between the transfer threads of two workers (msgpack, tagged arrays)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from kvtransfer.causes import Cause
from kvtransfer.errors import MalformedMessage
from kvtransfer.wire import WireFormat

# UCX sends more than 8 KiB by rendezvous; that would bind the public inbox to its sender.
MAX_CONTROL_BYTES = 8000
MAX_LEASE_SECONDS = 86400
MAX_REASON_CHARS = 1024
MAX_LAYOUT_CHARS = 3500
MAX_RANKS = 1024

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Address = Annotated[bytes, Meta(min_length=1, max_length=4096)]
Count = Annotated[int, Meta(ge=0, le=1 << 31)]
Rank = Annotated[int, Meta(ge=0, lt=MAX_RANKS)]


class Demand(msgspec.Struct, frozen=True, array_like=True, tag="demand"):
    """Decode to prefill: send me these prompt tokens' KV; everything before I have.

    Every rank of the receiver asks every rank of the source, each with the same `load`, which
    no other load has. `layout` is the receiver's, as JSON; `first_token` is a multiple of its
    block size. With `num_tokens` 0 the ticket is used and nothing needs to be sent. A segment
    with more payload than `max_payload_bytes` would find no room. It may wait for its request
    for `lease_seconds`.
    """

    ticket: Id
    load: Id
    rank: Rank
    reply_address: Address
    layout: Annotated[str, Meta(max_length=MAX_LAYOUT_CHARS)]
    first_token: Count
    num_tokens: Count
    max_payload_bytes: Count
    lease_seconds: Annotated[float, Meta(gt=0, le=MAX_LEASE_SECONDS)]
    wire: WireFormat = WireFormat.RAW


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Decode to prefill: this load wants the ticket's KV no more."""

    ticket: Id
    load: Id


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag="refuse"):
    """Prefill to decode: this ticket's KV will not come, or not to this load."""

    ticket: Id
    load: Id
    cause: Cause
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)]


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Are you there? The answer goes to `reply_address`."""

    reply_address: Address


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    """I am."""


class Left(msgspec.Struct, frozen=True, array_like=True, tag="left"):
    """Nothing will be taken at this address any more: it was a link's that is closed."""

    address: Address


Message = Demand | Cancel | Refuse | Ping | Pong | Left

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
