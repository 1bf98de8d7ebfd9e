"""What the transfer thread needs of a network: messages over links."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from kvtransfer.staging import Slot


class Kind(IntEnum):
    """The two kinds of message. A receiver takes them from separate queues."""

    CONTROL = 1
    SEGMENT = 2


class Operation(Protocol):
    """A send or a receive under way. The buffer belongs to it until it is done, and whoever
    started it keeps it until then.
    """

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

    def receive(self, buffer: Slot) -> Operation:
        """Into `buffer`; ends not ok if the message is longer."""


class Inbox(Protocol):
    """Something that messages come to."""

    @property
    def address(self) -> bytes:
        """Where others reach it. At most 4096 bytes."""

    def probe(self, kind: Kind) -> Arrival | None:
        """The next message of this kind that has come."""


class Link(Inbox, Protocol):
    """A way to one remote inbox, with an inbox of its own for what comes back.

    Links share nothing, so closing one frees all that a dead or silent peer would hold,
    and no other is touched.
    """

    @property
    def is_broken(self) -> bool:
        """The peer is known to be gone. Never waits."""

    def send(self, kind: Kind, buffer: Slot) -> Operation: ...

    def close(self) -> None:
        """Ends every operation of this link, not ok. Does not wait; idempotent."""


class Transport(Inbox, Protocol):
    """Reliable messages, in order per link and kind. Large ones leave the sender's buffer
    only when the receiver takes them, so that nothing piles up on either side.

    One thread calls everything but `wake`.
    """

    @property
    def max_links(self) -> int:
        """How many can be open at a time."""

    def connect(self, address: bytes) -> Link:
        """Raises TransportUnavailable if `address` is not one of this transport's kind."""

    def poll(self, timeout_seconds: float) -> bool:
        """Makes progress. If there is none to make, sleeps until something comes, `wake` is
        called, or the time is over. True if it made progress.
        """

    def wake(self) -> None:
        """Ends a `poll` that sleeps, or the next one. Any thread may call it."""

    def close(self) -> None:
        """Closes the links and frees everything. Idempotent."""
