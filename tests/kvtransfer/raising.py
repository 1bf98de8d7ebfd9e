from __future__ import annotations

import threading
from dataclasses import dataclass, field

from kvtransfer.transport import Arrival, Kind, Link, Transport


@dataclass(frozen=True, slots=True)
class RaisingTransport:
    """Raises when it is polled after `fail` has been called; see `Transport`."""

    inner: Transport
    _is_failing: threading.Event = field(default_factory=threading.Event)

    def fail(self) -> None:
        self._is_failing.set()
        self.inner.wake()

    @property
    def address(self) -> bytes:
        return self.inner.address

    def connect(self, address: bytes) -> Link:
        return self.inner.connect(address)

    def probe(self, kind: Kind) -> Arrival | None:
        return self.inner.probe(kind)

    def poll(self, timeout_seconds: float) -> bool:
        if self._is_failing.is_set():
            raise RuntimeError("the network adapter has gone")
        return self.inner.poll(timeout_seconds)

    def wake(self) -> None:
        self.inner.wake()

    def close(self) -> None:
        self.inner.close()
