"""Messages on their way to one gateway."""

from __future__ import annotations

import asyncio
from collections import deque

from proto import worker_pb2

MAX_MESSAGES = 4096
MAX_BYTES = 256 * 2**20


class Outbox:
    """A bounded queue in which only load reports replace each other.

    Nothing else is ever dropped: once more than `max_messages` or `max_bytes` wait,
    `overflowed` is set, nothing is taken any more, and the session has to end.
    """

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self.overflowed = asyncio.Event()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[tuple[worker_pb2.FromWorker, int]] = deque()
        self._load: worker_pb2.LoadReport | None = None
        self._num_bytes = 0
        self._is_finished = False
        self._news = asyncio.Event()

    def put(self, message: worker_pb2.FromWorker, num_bytes: int = 0) -> None:
        """`num_bytes`: about what it takes."""
        if self._is_finished or self.overflowed.is_set():
            return
        self._messages.append((message, num_bytes))
        self._num_bytes += num_bytes
        if len(self._messages) > self._max_messages or self._num_bytes > self._max_bytes:
            self.overflowed.set()
        self._news.set()

    def put_load(self, report: worker_pb2.LoadReport) -> None:
        """Takes the place of a report that has not been sent."""
        if not self._is_finished:
            self._load = report
            self._news.set()

    def finish(self) -> None:
        """Nothing is added any more."""
        self._is_finished = True
        self._news.set()

    async def get(self) -> worker_pb2.FromWorker | None:
        """The next message; None when finished and empty. Reports wait for all else."""
        while True:
            if self._messages:
                message, num_bytes = self._messages.popleft()
                self._num_bytes -= num_bytes
                return message
            if self._load is not None:
                report, self._load = self._load, None
                return worker_pb2.FromWorker(load=report)
            if self._is_finished:
                return None
            self._news.clear()
            await self._news.wait()

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._messages)} messages, {self._num_bytes} bytes>"
