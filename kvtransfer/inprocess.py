"""The transport of tests and simulations: threads of one process, no network."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass

from kvtransfer.errors import TransportUnavailable
from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Link


@dataclass(slots=True, eq=False)
class _Message:
    """A message is its own operation for the sender, and the arrival for the receiver."""

    sender: InProcessTransport
    data: Slot
    is_done: bool = False
    is_ok: bool = False

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    def receive(self, buffer: Slot) -> _Received:
        fits = len(self.data) <= len(buffer)
        if fits:
            buffer[: len(self.data)] = self.data
        is_ok = fits and not self.is_done  # if it has ended meanwhile, its buffer may be in new use
        self.end(is_ok)
        return _Received(is_ok)

    def end(self, is_ok: bool) -> None:
        if not self.is_done:
            self.is_ok = is_ok
            self.is_done = True
            self.sender.wake()


@dataclass(frozen=True, slots=True)
class _Received:
    is_ok: bool
    is_done: bool = True


class _InProcessInbox:
    def __init__(self, owner: InProcessTransport, address: bytes) -> None:
        self.owner = owner
        self.address = address
        self.is_closed = False
        self._arrived: dict[Kind, deque[_Message]] = {kind: deque() for kind in Kind}

    def deliver(self, kind: Kind, message: _Message) -> None:
        self._arrived[kind].append(message)
        self.owner.wake()

    def probe(self, kind: Kind) -> Arrival | None:
        arrived = self._arrived[kind]
        return arrived.popleft() if arrived else None

    def close(self) -> None:
        self.is_closed = True
        self.owner.network.forget(self.address)
        for arrived in self._arrived.values():
            while arrived:
                arrived.popleft().end(is_ok=False)


class _InProcessLink(_InProcessInbox):
    def __init__(self, owner: InProcessTransport, address: bytes, target: _InProcessInbox) -> None:
        super().__init__(owner, address)
        self._target = target
        self._sent: list[_Message] = []

    @property
    def is_broken(self) -> bool:
        return self._target.is_closed

    def send(self, kind: Kind, buffer: Slot) -> _Message:
        message = _Message(self.owner, buffer)
        self._sent = [m for m in self._sent if not m.is_done]
        self._sent.append(message)
        self._target.deliver(kind, message)
        return message

    def close(self) -> None:
        super().close()
        for message in self._sent:
            message.end(is_ok=False)


class InProcessNetwork:
    """Where in-process transports find each other."""

    def __init__(self) -> None:
        self._names = itertools.count(1)
        self._inboxes: dict[bytes, _InProcessInbox] = {}

    def transport(self) -> InProcessTransport:
        return InProcessTransport(self)

    def new_address(self) -> bytes:
        return b"inprocess:%d" % next(self._names)

    def find(self, address: bytes) -> _InProcessInbox:
        try:
            return self._inboxes[address]
        except KeyError:
            raise TransportUnavailable(f"no in-process transport at {address!r}") from None

    def add(self, inbox: _InProcessInbox) -> None:
        self._inboxes[inbox.address] = inbox

    def forget(self, address: bytes) -> None:
        self._inboxes.pop(address, None)


class InProcessTransport:
    """See `Transport`. Every send waits for its receiver, as a large UCX message does."""

    max_links = 256

    def __init__(self, network: InProcessNetwork) -> None:
        self.network = network
        self._inbox = _InProcessInbox(self, network.new_address())
        self._links: list[Link] = []
        self._woken = threading.Event()
        network.add(self._inbox)

    @property
    def address(self) -> bytes:
        return self._inbox.address

    def connect(self, address: bytes) -> Link:
        target = self.network.find(address)
        link = _InProcessLink(self, self.network.new_address(), target)
        self.network.add(link)
        self._links.append(link)
        return link

    def probe(self, kind: Kind) -> Arrival | None:
        return self._inbox.probe(kind)

    def poll(self, timeout_seconds: float) -> bool:
        was_woken = self._woken.wait(timeout_seconds)
        self._woken.clear()
        return was_woken

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._inbox.close()
        for link in self._links:
            link.close()
