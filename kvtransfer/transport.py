"""What the transfer thread needs of a network: messages between worker addresses."""

from __future__ import annotations

import zlib
from enum import IntEnum
from typing import Protocol

from kvtransfer.staging import Slot


class Kind(IntEnum):
    """The two kinds of message. A receiver takes them from separate queues."""

    CONTROL = 1
    SEGMENT = 2


def sender_id(address: bytes) -> int:
    """What an arrival is marked with: 32 bits that tell its sender's address from others."""
    return zlib.crc32(address)


class Operation(Protocol):
    """A send or a receive under way. The buffer belongs to it until it is done."""

    @property
    def is_done(self) -> bool:
        """It has ended, well or not."""

    @property
    def is_ok(self) -> bool:
        """It has ended well."""


class Arrival(Protocol):
    """A message that has come; it must be received, once."""

    @property
    def num_bytes(self) -> int: ...

    @property
    def sender(self) -> int:
        """The `sender_id` of where it comes from."""

    def receive(self, buffer: Slot) -> Operation:
        """Into `buffer`; ends not ok if the message is longer."""


class Peer(Protocol):
    """A connection to one address."""

    def send(self, kind: Kind, buffer: Slot) -> Operation: ...

    def close(self) -> None:
        """Ends every operation of this connection, not ok. Bounded in time; idempotent."""


class Transport(Protocol):
    """Reliable messages, in order per peer and kind. Large ones leave the sender's buffer
    only when the receiver takes them, so that nothing piles up on either side.

    One thread calls everything but `wake`.
    """

    @property
    def address(self) -> bytes:
        """Where others reach this transport. At most 4096 bytes."""

    def connect(self, address: bytes) -> Peer:
        """Raises TransportUnavailable if `address` is not one of this transport's kind."""

    def probe(self, kind: Kind) -> Arrival | None:
        """The next message that has come."""

    def poll(self, timeout_seconds: float) -> bool:
        """Makes progress. If there is none to make, sleeps until something comes, `wake` is
        called, or the time is over. True if it made progress.
        """

    def wake(self) -> None:
        """Ends a `poll` that sleeps, or the next one. Any thread may call it."""

    def close(self) -> None:
        """Frees everything. Idempotent."""
