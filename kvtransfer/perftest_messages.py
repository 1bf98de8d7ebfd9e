"""One end of the performance test: messages there and back, and streams either way."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Iterable

import numpy as np

from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Inbox, Kind, Link, Operation, Transport

BUSY_SECONDS = 0.001
PATIENCE_SECONDS = 30.0
_NOTE = struct.Struct("<8sQ")
_TOTAL, _DONE = b"total", b"done"


class End:
    """Sends by `link`, receives from `inbox`; the other process has its counterpart.

    A silence of PATIENCE_SECONDS is a TimeoutError.
    """

    def __init__(self, transport: Transport, link: Link, inbox: Inbox) -> None:
        self._transport = transport
        self._link = link
        self._inbox = inbox

    def send(self, buffer: Slot) -> Operation:
        return self._link.send(Kind.SEGMENT, buffer)

    def note(self, what: bytes, number: int = 0) -> Operation:
        message = np.frombuffer(bytearray(_NOTE.pack(what, number)), np.uint8)
        return self._link.send(Kind.CONTROL, message)

    def probe(self) -> Arrival | None:
        return self._inbox.probe(Kind.SEGMENT)

    def notes(self) -> Iterable[tuple[bytes, int]]:
        """Those that have come."""
        while arrival := self._inbox.probe(Kind.CONTROL):
            message = np.zeros(_NOTE.size, np.uint8)
            self.finish(arrival.receive(message))
            what, number = _NOTE.unpack(message.tobytes())
            yield what.rstrip(b"\0"), number

    def finish(self, operation: Operation) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not operation.is_done:
            self.wait(deadline)

    def wait(self, deadline: float) -> None:
        """For a moment."""
        if not self._transport.poll(BUSY_SECONDS) and time.monotonic() > deadline:
            raise TimeoutError("the other process does not answer")

    def ping(self, num_bytes: int, seconds: float) -> float:
        """Half of the time there and back, in seconds, while the other end echoes."""
        buffer = np.ones(num_bytes, np.uint8)
        started, num_rounds, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < seconds or num_rounds < 2:
            self.send(buffer)
            self._receive_one(buffer)
            num_rounds += 1
            elapsed = time.perf_counter() - started
        self.note(_DONE)
        self._receive_one(buffer)
        return elapsed / num_rounds / 2

    def echo(self, num_bytes: int) -> None:
        """Returns what comes until the other end is done."""
        buffer = np.ones(num_bytes, np.uint8)
        while self._receive_one(buffer):
            self.finish(self.send(buffer))
        self.finish(self.note(_DONE))

    def _receive_one(self, buffer: Slot) -> bool:
        """False if a note comes instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (arrival := self.probe()):
            if any(True for _ in self.notes()):
                return False
            self.wait(deadline)
        self.finish(arrival.receive(buffer))
        return True


class Stream:
    """One end of a stream of equal messages, for as long as `send_seconds` from here, which
    is 0 at an end that only receives.

    As UCX's own test does, it uses one buffer for all messages of a direction.
    """

    def __init__(self, end: End, num_bytes: int, send_seconds: float, window: int) -> None:
        self._end = end
        self._window = window
        self._send_seconds = send_seconds
        self._outgoing = np.ones(num_bytes, np.uint8)
        self._incoming = np.ones(num_bytes, np.uint8)
        self._sending: deque[Operation] = deque()
        self._receiving: deque[Operation] = deque()
        self._num_expected: int | None = None
        self._told: set[bytes] = set()
        self._is_taken = False
        self.num_sent = 0
        self.num_received = 0

    def run(self) -> float:
        """Returns when each end has received everything, and says how many seconds it took."""
        started = time.perf_counter()
        until = started + self._send_seconds
        deadline = time.monotonic() + self._send_seconds + PATIENCE_SECONDS
        while not (self._is_taken and _DONE in self._told):
            is_over = time.perf_counter() >= until
            if not self._send(is_over) | self._receive():
                self._tell(is_over)
                self._heed()
                self._end.wait(deadline)
        return time.perf_counter() - started

    def _send(self, is_over: bool) -> bool:
        while self._sending and self._sending[0].is_done:
            self._sending.popleft()
        if is_over or len(self._sending) >= self._window:
            return False
        self._sending.append(self._end.send(self._outgoing))
        self.num_sent += 1
        return True

    def _receive(self) -> bool:
        while self._receiving and self._receiving[0].is_done:
            self._receiving.popleft()
        if len(self._receiving) >= self._window or not (arrival := self._end.probe()):
            return False
        self._receiving.append(arrival.receive(self._incoming))
        self.num_received += 1
        return True

    def _tell(self, is_over: bool) -> None:
        if is_over and not self._sending:
            self._tell_once(_TOTAL, self.num_sent)
        if self.num_received == self._num_expected and not self._receiving:
            self._tell_once(_DONE, self.num_received)

    def _tell_once(self, what: bytes, number: int) -> None:
        if what not in self._told:
            self._told.add(what)
            self._end.finish(self._end.note(what, number))

    def _heed(self) -> None:
        for what, number in self._end.notes():
            if what == _TOTAL:
                self._num_expected = number
            self._is_taken |= what == _DONE
