"""What a worker tells the fleet about the KV blocks that it holds (msgpack, tagged arrays)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from fleet.tier import BlockKeys, Tier

# In one message. More blocks take several.
MAX_KEYS = 1 << 16
MAX_NEWS = 4096
KEY_BYTES = 8
KEY_TYPE = np.dtype("<u8")

# A gateway guesses who holds what is EXPECTED; no worker says so.
HeldTier = Annotated[int, Meta(ge=int(Tier.DEVICE), le=int(Tier.DISK))]
PackedKeys = Annotated[bytes, Meta(max_length=MAX_KEYS * KEY_BYTES)]
Number = Annotated[int, Meta(ge=0)]


class Stored(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """These are held now."""

    tier: HeldTier
    keys: PackedKeys


class Removed(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """These are held no more."""

    tier: HeldTier
    keys: PackedKeys


class Cleared(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Nothing is held on this tier."""

    tier: HeldTier


News = Stored | Removed | Cleared


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """News of one worker ("worker_id/incarnation"), in order. `number` counts its batches from
    1, without a gap.
    """

    worker: str
    number: Number
    news: Annotated[tuple[News, ...], Meta(max_length=MAX_NEWS)]


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """All that a worker holds after its batch `number`: packed keys by tier."""

    worker: str
    number: Number
    tiers: dict[HeldTier, bytes]


_encoder = msgspec.msgpack.Encoder()
_batches = msgspec.msgpack.Decoder(Batch)
_snapshots = msgspec.msgpack.Decoder(Snapshot)


def encode(message: Batch | Snapshot) -> bytes:
    return _encoder.encode(message)


def decode_batch(data: bytes) -> Batch:
    """Raises ValueError if it is none."""
    batch = _batches.decode(data)
    for news in batch.news:
        if not isinstance(news, Cleared):
            check_packed(news.keys)
    return batch


def decode_snapshot(data: bytes) -> Snapshot:
    """Raises ValueError if it is none."""
    snapshot = _snapshots.decode(data)
    for keys in snapshot.tiers.values():
        check_packed(keys)
    return snapshot


def check_packed(keys: bytes) -> None:
    """Raises ValueError for parts of keys, and for 0, which is none."""
    if len(keys) % KEY_BYTES:
        raise ValueError(f"{len(keys)} bytes are no list of block keys")
    if not unpack(keys).all():
        raise ValueError("0 is no block key")


def pack(keys: Iterable[int]) -> bytes:
    """64-bit numbers, little-endian."""
    return np.fromiter(keys, KEY_TYPE).tobytes()


def unpack(keys: bytes) -> BlockKeys:
    return np.frombuffer(keys, KEY_TYPE).astype(np.uint64, copy=False)
