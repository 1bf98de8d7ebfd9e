"""The forms in which KV can travel, and the bytes that it takes then."""

from __future__ import annotations

from enum import StrEnum

from proto.layout import KvLayout

SCALE_BYTES = 4
FLOATS = ("float32", "float16", "bfloat16")


class WireFormat(StrEnum):
    """RAW is the receiver's own blocks, bit for bit. The others are one byte an element, with a
    float32 scale for each block and head, and for K and V apart.
    """

    RAW = "raw"
    FP8 = "fp8"  # e4m3
    INT8 = "int8"


CODES = {WireFormat.RAW: 0, WireFormat.FP8: 1, WireFormat.INT8: 2}
FORMATS = {code: wire for wire, code in CODES.items()}


def agree(asked: WireFormat, offered: WireFormat, layout: KvLayout) -> WireFormat:
    """A smaller form needs both sides' consent, and KV that is not quantized already."""
    return asked if asked == offered and layout.dtype in FLOATS else WireFormat.RAW


def num_scales(layout: KvLayout) -> int:
    """Of one head in one block: one for K, one for V where there is one."""
    return 1 if layout.key_size in (0, layout.content_size) else 2


def head_bytes(layout: KvLayout, wire: WireFormat) -> int:
    """What one head's share of one block takes on the way. `layout` is the receiver's."""
    if wire is WireFormat.RAW:
        return layout.head_bytes
    return num_scales(layout) * SCALE_BYTES + layout.block_size * layout.content_size
