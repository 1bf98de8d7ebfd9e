"""Faults on purpose, for tests that must notice them. Never on unless configured."""

from __future__ import annotations

from dataclasses import dataclass

from kvtransfer.envelope import Envelope
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Link, Operation, Transport


@dataclass(frozen=True, slots=True)
class _CorruptingLink:
    inner: Link

    @property
    def address(self) -> bytes:
        return self.inner.address

    @property
    def is_broken(self) -> bool:
        return self.inner.is_broken

    def probe(self, kind: Kind) -> Arrival | None:
        return self.inner.probe(kind)

    def send(self, kind: Kind, buffer: Slot) -> Operation:
        if kind is Kind.SEGMENT:
            buffer[HEADER_BYTES::97] ^= 0x55
        return self.inner.send(kind, buffer)

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True, slots=True)
class CorruptingTransport:
    """Changes some payload bytes of every segment that it sends; see `Transport`."""

    inner: Transport

    @property
    def address(self) -> bytes:
        return self.inner.address

    @property
    def max_links(self) -> int:
        return self.inner.max_links

    def connect(self, address: bytes) -> Link:
        return _CorruptingLink(self.inner.connect(address))

    def probe(self, kind: Kind) -> Arrival | None:
        return self.inner.probe(kind)

    def poll(self, timeout_seconds: float) -> bool:
        return self.inner.poll(timeout_seconds)

    def wake(self) -> None:
        self.inner.wake()

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True, slots=True)
class FalsifyingEnvelope:
    """Changes the payload before it seals it, so that only wrong answers show it."""

    inner: Envelope

    def seal(self, segment: Segment, message: Slot, seed: int) -> None:
        message[HEADER_BYTES::97] ^= 0x55
        self.inner.seal(segment, message, seed)

    def read(self, message: Slot) -> Segment:
        return self.inner.read(message)

    def is_intact(self, message: Slot, seed: int) -> bool:
        return self.inner.is_intact(message, seed)
