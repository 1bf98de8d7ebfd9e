"""Messages between two processes, for the performance test: there and back, and one way."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import deque
from multiprocessing.connection import Connection

import numpy as np

from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Link, Operation
from kvtransfer.ucx import UcxTransport

WINDOW = 8
BUSY_SECONDS = 0.001
IDLE_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
_COUNT = struct.Struct("<8sQ")  # at the start of a control message
_ECHO, _COUNTED, _QUIT = b"echo", b"counted", b"quit"


class Messenger:
    """This process's end."""

    def __init__(self, pipe: Connection) -> None:
        self.transport = UcxTransport()
        self._link = self.transport.connect(pipe.recv_bytes())
        pipe.send_bytes(self._link.address)

    def latency_seconds(self, num_bytes: int, seconds: float) -> float:
        """Half of the time there and back."""
        message = _control(_ECHO, 0, num_bytes)
        for _ in range(100):
            self._exchange(message)
        started, num_rounds = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            self._exchange(message)
            num_rounds += 1
        return (time.perf_counter() - started) / num_rounds / 2

    def bytes_per_second(self, num_bytes: int, seconds: float) -> float:
        """One way, with WINDOW messages under way."""
        buffers = [np.ones(num_bytes, np.uint8) for _ in range(WINDOW)]
        self._stream(buffers, seconds / 10)
        started = time.perf_counter()
        num_sent = self._stream(buffers, seconds)
        return num_sent * num_bytes / (time.perf_counter() - started)

    def close(self) -> None:
        operation = self._link.send(Kind.CONTROL, _control(_QUIT, 0))
        deadline = time.monotonic() + IDLE_SECONDS
        while not operation.is_done and time.monotonic() < deadline:
            self.transport.poll(BUSY_SECONDS)
        self.transport.close()

    def _stream(self, buffers: list[Slot], seconds: float) -> int:
        """Sends for a while, and waits until all has been received."""
        under_way: deque[Operation] = deque()
        until, num_sent = time.perf_counter() + seconds, 0
        while under_way or time.perf_counter() < until:
            while under_way and under_way[0].is_done:
                under_way.popleft()
            if len(under_way) < WINDOW and time.perf_counter() < until:
                under_way.append(self._link.send(Kind.SEGMENT, buffers[num_sent % WINDOW]))
                num_sent += 1
            else:
                self.transport.poll(BUSY_SECONDS)
        self._exchange(_control(_COUNTED, num_sent))
        return num_sent

    def _exchange(self, message: Slot) -> None:
        operation = self._link.send(Kind.CONTROL, message)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (arrival := self._link.probe(Kind.CONTROL)) is None:
            self.transport.poll(IDLE_SECONDS if operation.is_done else BUSY_SECONDS)
            if time.monotonic() > deadline:
                raise TimeoutError("the other process does not answer")
        _finish(self.transport, arrival.receive(np.zeros(arrival.num_bytes, np.uint8)))


class Responder:
    """The other process's end."""

    def __init__(self, pipe: Connection) -> None:
        self.transport = UcxTransport()
        pipe.send_bytes(self.transport.address)
        self._link: Link = self.transport.connect(pipe.recv_bytes())
        self._buffers: list[Slot] = [np.zeros(0, np.uint8)] * WINDOW
        self._receiving: deque[Operation] = deque()
        self._num_taken = 0

    def run(self) -> None:
        """Until it is told to stop."""
        while True:
            self._take_segments()
            if arrival := self.transport.probe(Kind.CONTROL):
                message = np.zeros(arrival.num_bytes, np.uint8)
                _finish(self.transport, arrival.receive(message))
                what, num_segments = _COUNT.unpack_from(message.data)
                if what.startswith(_QUIT):
                    return
                if what.startswith(_COUNTED):
                    self._wait_for_segments(num_segments)
                _finish(self.transport, self._link.send(Kind.CONTROL, message))
            self.transport.poll(BUSY_SECONDS if self._receiving else IDLE_SECONDS)

    def _wait_for_segments(self, number: int) -> None:
        while self._num_taken < number or self._receiving:
            self._take_segments()
            self.transport.poll(BUSY_SECONDS)
        self._num_taken = 0

    def _take_segments(self) -> None:
        while self._receiving and self._receiving[0].is_done:
            self._receiving.popleft()
        while len(self._receiving) < WINDOW and (arrival := self.transport.probe(Kind.SEGMENT)):
            self._receiving.append(arrival.receive(self._buffer_for(arrival)))
            self._num_taken += 1

    def _buffer_for(self, arrival: Arrival) -> Slot:
        index = self._num_taken % WINDOW
        if len(self._buffers[index]) < arrival.num_bytes:
            self._buffers[index] = np.zeros(arrival.num_bytes, np.uint8)
        return self._buffers[index]


def serve_messages(pipe: Connection, core: int) -> None:
    """The other process."""
    os.sched_setaffinity(0, {core})
    responder = Responder(pipe)
    with contextlib.suppress(KeyboardInterrupt):
        responder.run()
    responder.transport.close()


def _control(what: bytes, number: int, num_bytes: int = _COUNT.size) -> Slot:
    message = np.zeros(max(num_bytes, _COUNT.size), np.uint8)
    _COUNT.pack_into(message.data, 0, what, number)
    return message


def _finish(transport: UcxTransport, operation: Operation) -> None:
    while not operation.is_done:
        transport.poll(BUSY_SECONDS)
