"""How segments are sealed and opened in a staging slot, wherever the slot lies."""

from __future__ import annotations

from typing import Protocol

from kvtransfer.segment import Segment, is_intact
from kvtransfer.staging import Slot


class Envelope(Protocol):
    """Opens what any other envelope has sealed."""

    def seal(self, segment: Segment, message: Slot, seed: int) -> None:
        """Puts the header before the payload, which must be complete."""

    def read(self, message: Slot) -> Segment:
        """Raises MalformedMessage."""

    def is_intact(self, message: Slot, seed: int) -> bool:
        """Whether a segment that has been read is what its sender sealed."""


class HostEnvelope:
    """For slots in ordinary or pinned memory."""

    def seal(self, segment: Segment, message: Slot, seed: int) -> None:
        segment.seal(message, seed)

    def read(self, message: Slot) -> Segment:
        return Segment.read(message)

    def is_intact(self, message: Slot, seed: int) -> bool:
        return is_intact(message, seed)
