"""Transports around others, for tests that change one thing about them; see `Transport`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Link, Operation, Transport

Tamper = Callable[[Kind, Slot], Sequence[Slot]]


class WrappedTransport:
    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    @property
    def address(self) -> bytes:
        return self.inner.address

    @property
    def max_links(self) -> int:
        return self.inner.max_links

    def connect(self, address: bytes) -> Link:
        return self.inner.connect(address)

    def probe(self, kind: Kind) -> Arrival | None:
        return self.inner.probe(kind)

    def poll(self, timeout_seconds: float) -> bool:
        return self.inner.poll(timeout_seconds)

    def wake(self) -> None:
        self.inner.wake()

    def close(self) -> None:
        self.inner.close()


class BoundedTransport(WrappedTransport):
    """Bears so many links."""

    def __init__(self, inner: Transport, max_links: int) -> None:
        super().__init__(inner)
        self._max_links = max_links

    @property
    def max_links(self) -> int:
        return self._max_links


class RaisingTransport(WrappedTransport):
    """Raises when it is polled after `fail` has been called."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self._is_failing = threading.Event()

    def fail(self) -> None:
        self._is_failing.set()
        self.inner.wake()

    def poll(self, timeout_seconds: float) -> bool:
        if self._is_failing.is_set():
            raise RuntimeError("the network adapter has gone")
        return self.inner.poll(timeout_seconds)


@dataclass(frozen=True, slots=True)
class _All:
    """Several sends as one. Keeps what is sent until the end."""

    buffers: Sequence[Slot]
    operations: Sequence[Operation] = field(default=())

    @property
    def is_done(self) -> bool:
        return all(operation.is_done for operation in self.operations)

    @property
    def is_ok(self) -> bool:
        return all(operation.is_ok for operation in self.operations)


@dataclass(frozen=True)
class _TamperedLink:
    inner: Link
    tamper: Tamper

    @property
    def address(self) -> bytes:
        return self.inner.address

    @property
    def is_broken(self) -> bool:
        return self.inner.is_broken

    def probe(self, kind: Kind) -> Arrival | None:
        return self.inner.probe(kind)

    def send(self, kind: Kind, buffer: Slot) -> Operation:
        buffers = self.tamper(kind, buffer)
        return _All([buffer, *buffers], [self.inner.send(kind, each) for each in buffers])

    def close(self) -> None:
        self.inner.close()


class TamperedTransport(WrappedTransport):
    """Sends what `tamper` makes of each message in its place; it must leave the message alone."""

    def __init__(self, inner: Transport, tamper: Tamper) -> None:
        super().__init__(inner)
        self._tamper = tamper

    def connect(self, address: bytes) -> Link:
        return _TamperedLink(self.inner.connect(address), self._tamper)
