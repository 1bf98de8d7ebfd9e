"""The settings of a transfer thread."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvtransfer.errors import StagingTooSmall
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.wire import WireFormat


@dataclass(frozen=True, slots=True)
class Slots:
    """How staging for one direction is cut up."""

    number: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class MoverConfig:
    """`staging_bytes` is for both directions of one rank together and never exceeded. A slot has
    `slot_bytes`, or what one block of one layer takes if that is more, and no more than there
    is for its direction.

    A link on which a message makes no way for `stall_seconds`, or whose peer does not answer
    for as long while something is expected of it, is closed. `wire` is the form that this rank
    asks for as a receiver and offers as a sender.
    """

    staging_bytes: int = 16 << 20
    slot_bytes: int = 1 << 20
    stall_seconds: float = 10.0
    ping_seconds: float = 1.0
    wire: WireFormat = WireFormat.RAW

    def with_pings(self) -> MoverConfig:
        """So that a peer is asked several times before it counts as silent."""
        return replace(self, ping_seconds=min(self.ping_seconds, self.stall_seconds / 4))

    def slots(self, block_bytes: int) -> Slots:
        """For blocks that take `block_bytes` in one layer of this rank. Raises StagingTooSmall."""
        most, least = self.staging_bytes // 2, HEADER_BYTES + block_bytes
        if least > most:
            raise StagingTooSmall(self.staging_bytes, 2 * least)
        num_bytes = min(max(self.slot_bytes, least), most)
        return Slots(most // num_bytes, num_bytes)
