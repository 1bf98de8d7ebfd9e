"""One encoding of several values: no two different lists of values encode to the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable

Value = bytes | str | int | float


def encode(values: Iterable[Value]) -> bytes:
    """Each value by its kind and its length in bytes before it. An int is below 2**64."""
    return b"".join(map(_encode, values))


def _encode(value: Value) -> bytes:
    match value:
        case bytes():
            kind, data = b"b", value
        case str():
            kind, data = b"s", value.encode("utf-8", "surrogatepass")
        case int():
            kind, data = b"i", struct.pack(">Q", value)
        case float():
            kind, data = b"f", struct.pack(">d", value)
    return kind + struct.pack(">Q", len(data)) + data
