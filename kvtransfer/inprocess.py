"""The transport of tests and simulations: threads of one process, no network."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field

from kvtransfer.errors import TransportUnavailable
from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Peer, sender_id


@dataclass(slots=True)
class _Message:
    """A message is its own operation for the sender, and the arrival for the receiver."""

    origin: InProcessTransport
    data: Slot
    is_done: bool = False
    is_ok: bool = False

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    @property
    def sender(self) -> int:
        return sender_id(self.origin.address)

    def receive(self, buffer: Slot) -> _Received:
        fits = len(self.data) <= len(buffer)
        if fits and not self.is_done:
            buffer[: len(self.data)] = self.data
        received = _Received(is_ok=fits and not self.is_done)
        self.end(is_ok=received.is_ok)
        return received

    def end(self, is_ok: bool) -> None:
        if not self.is_done:
            self.is_ok = is_ok
            self.is_done = True
            self.origin.wake()


@dataclass(frozen=True, slots=True)
class _Received:
    is_ok: bool
    is_done: bool = True


@dataclass(slots=True)
class _Peer:
    sender: InProcessTransport
    target: InProcessTransport
    _sent: list[_Message] = field(default_factory=list)

    def send(self, kind: Kind, buffer: Slot) -> _Message:
        message = _Message(self.sender, buffer)
        self._sent = [m for m in self._sent if not m.is_done]
        self._sent.append(message)
        self.target.deliver(kind, message)
        return message

    def close(self) -> None:
        for message in self._sent:
            message.end(is_ok=False)


class InProcessNetwork:
    """Where in-process transports find each other."""

    def __init__(self) -> None:
        self._names = itertools.count(1)
        self._transports: dict[bytes, InProcessTransport] = {}

    def transport(self) -> InProcessTransport:
        address = b"inprocess:%d" % next(self._names)
        self._transports[address] = InProcessTransport(self, address)
        return self._transports[address]

    def find(self, address: bytes) -> InProcessTransport:
        try:
            return self._transports[address]
        except KeyError:
            raise TransportUnavailable(f"no in-process transport at {address!r}") from None

    def forget(self, address: bytes) -> None:
        self._transports.pop(address, None)


class InProcessTransport:
    """See `Transport`. Every send waits for its receiver, as a large UCX message does."""

    def __init__(self, network: InProcessNetwork, address: bytes) -> None:
        self._network = network
        self._address = address
        self._arrived: dict[Kind, deque[_Message]] = {kind: deque() for kind in Kind}
        self._woken = threading.Event()

    @property
    def address(self) -> bytes:
        return self._address

    def connect(self, address: bytes) -> Peer:
        return _Peer(self, self._network.find(address))

    def deliver(self, kind: Kind, message: _Message) -> None:
        self._arrived[kind].append(message)
        self.wake()

    def probe(self, kind: Kind) -> Arrival | None:
        arrived = self._arrived[kind]
        return arrived.popleft() if arrived else None

    def poll(self, timeout_seconds: float) -> bool:
        was_woken = self._woken.wait(timeout_seconds)
        self._woken.clear()
        return was_woken

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._network.forget(self._address)
        for arrived in self._arrived.values():
            for message in arrived:
                message.end(is_ok=False)
