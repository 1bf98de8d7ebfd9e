"""A UCX worker that messages come to, and the operations on it."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import numpy as np

from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind

CANCEL_STEP_NANOSECONDS = 1_000_000
CANCEL_STEPS = 10
_WHOLE_TAG = (1 << 64) - 1
_MAX_STEPS = 64
_MAX_REFUSALS = 4096
_MANY = 256


class UcxOperation:
    """See `Operation`."""

    __slots__ = ("_buffer", "_inbox", "_request")

    def __init__(self, inbox: UcxInbox, request: Any, buffer: Slot) -> None:
        self._inbox = inbox
        self._request = request
        self._buffer = buffer

    @property
    def request(self) -> Any:
        """ucxx's own."""
        return self._request

    @property
    def is_done(self) -> bool:
        return self._inbox.is_closed or bool(self._request.completed)

    @property
    def is_ok(self) -> bool:
        if self._inbox.is_closed or not self._request.completed:
            return False
        try:
            self._request.check_error()
        except Exception:  # ucxx has a class of its own for every UCX status
            return False
        return True


class _Arrival:
    __slots__ = ("_found", "_inbox")

    def __init__(self, inbox: UcxInbox, found: Any) -> None:
        self._inbox = inbox
        self._found = found

    @property
    def num_bytes(self) -> int:
        return int(self._found.length)

    def receive(self, buffer: Slot) -> UcxOperation:
        return self._inbox.receive(self._found, buffer[: self.num_bytes])


class InboxOwner(Protocol):
    """Gives inboxes their turns."""

    def wake_up(self, inbox: UcxInbox) -> None:
        """Something is under way: it needs turns until it is neither busy nor unarmed. Then
        its `fd` tells when the next one is due.
        """

    def forget(self, inbox: UcxInbox) -> None:
        """It closes."""


class UcxInbox:
    """A UCX worker."""

    def __init__(self, ucxx: Any, context: Any, owner: InboxOwner) -> None:
        self.ucxx = ucxx
        self.worker = ucxx.UCXWorker(context)
        self.worker.init_blocking_progress_mode()
        self.worker_address = self.worker.address.tobytes()
        self.fd = int(self.worker.epoll_file_descriptor)
        self.is_closed = False
        self._owner = owner
        self._under_way: deque[UcxOperation] = deque()
        self._tags = {kind: ucxx.UCXXTag(int(kind)) for kind in Kind}
        self._mask = ucxx.UCXXTagMask(_WHOLE_TAG)

    def probe(self, kind: Kind) -> Arrival | None:
        if self.is_closed:
            return None
        found = self.worker.tag_probe(self._tags[kind], self._mask, True)
        return _Arrival(self, found) if found.matched else None

    def receive(self, found: Any, buffer: Slot) -> UcxOperation:
        return self.started(
            self.worker.tag_recv_with_handle(self.ucxx.Array(buffer), found), buffer
        )

    def started(self, request: Any, buffer: Slot) -> UcxOperation:
        operation = UcxOperation(self, request, buffer)
        self._drop_done()
        self._under_way.append(operation)
        self._owner.wake_up(self)
        return operation

    def progress(self) -> bool:
        steps = 0
        while steps < _MAX_STEPS and self.worker.progress_once():
            steps += 1
        return steps > 0

    @property
    def is_busy(self) -> bool:
        """Something is under way. A peer's making room for it wakes nobody."""
        self._drop_done()
        return bool(self._under_way)

    def _drop_done(self) -> None:
        """One that never ends, because its peer is dead, does not keep the others."""
        while self._under_way and self._under_way[0].is_done:
            self._under_way.popleft()
        if len(self._under_way) > _MANY:
            self._under_way = deque(each for each in self._under_way if not each.is_done)

    def arm(self) -> bool:
        """False if there is progress to make first."""
        return bool(self.worker.arm())

    def close(self) -> None:
        if not self.is_closed:
            self.end()

    def end(self) -> list[Any]:
        """Closes; returns the requests that were under way."""
        self.is_closed = True
        self._owner.forget(self)
        requests = [operation.request for operation in self._under_way]
        requests += self._refuse_arrivals()
        self.worker.cancel_inflight_requests(CANCEL_STEP_NANOSECONDS, CANCEL_STEPS)
        self._under_way.clear()
        self.worker = None
        return requests

    def _refuse_arrivals(self) -> list[Any]:
        """Takes what has come into no buffer, which ends at once. ucxx would receive all of it
        before it destroys a worker, and wait for ever for a sender that is dead.
        """
        refused: list[Any] = []
        nothing = self.ucxx.Array(np.zeros(0, np.uint8))
        for _ in range(_MAX_REFUSALS):
            moved = self.progress()
            found = self.worker.tag_probe(self.ucxx.UCXXTag(0), self.ucxx.UCXXTagMask(0), True)
            if found.matched:
                refused.append(self.worker.tag_recv_with_handle(nothing, found))
            elif not moved:
                break
        return refused
