"""The settings of a transfer thread."""

from __future__ import annotations

from dataclasses import dataclass

from kvtransfer.wire import WireFormat


@dataclass(frozen=True, slots=True)
class MoverConfig:
    """`staging_bytes` is for both directions together and never exceeded; a slot is made
    large enough for one block of one layer.

    A link on which a message makes no way for `stall_seconds`, or whose peer does not answer
    for as long while something is expected of it, is closed. `wire` is the form that this rank
    asks for as a receiver and offers as a sender.
    """

    staging_bytes: int = 16 << 20
    slot_bytes: int = 1 << 20
    lease_seconds: float = 120.0
    stall_seconds: float = 10.0
    ping_seconds: float = 1.0
    wire: WireFormat = WireFormat.RAW
