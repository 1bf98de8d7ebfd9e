"""The transport over UCX, by ucxx's low-level API and worker addresses.

Endpoints made from worker addresses let UCX choose: shared memory inside a host, RDMA or
TCP between hosts. Two things are decided here, both so that one worker's death never takes
another with it:

- CMA is left out. UCX aborts the process when the peer of a CMA read has died.
- Endpoints to other hosts handle errors, those inside a host do not: with error handling
  UCX offers no shared memory at all.

UCX does not wake a sleeping sender when its peer has made room, so callers poll often while
operations are under way and may sleep long when there are none.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvtransfer.errors import TransportUnavailable
from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Peer, sender_id

_KIND_MASK = 0xFF
_SENDER_SHIFT = 8
_CLOSE_STEP_NANOSECONDS = 1_000_000
_CLOSE_STEPS = 100
_MAX_STEPS = 64


def _load_ucxx() -> Any:
    try:
        from ucxx._lib import arr, libucxx
    except (ImportError, OSError) as error:
        raise TransportUnavailable(
            f"UCX cannot be loaded ({error}); install ucxx-cu12 and libucx-cu12"
        ) from error
    libucxx.Array = arr.Array
    return libucxx


def _host_id() -> bytes:
    """Equal for two processes that can share memory: same boot, same host name."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{socket.gethostname()}".encode()


class _Operation:
    __slots__ = ("_buffer", "_request")

    def __init__(self, request: Any, buffer: Slot) -> None:
        self._request = request
        self._buffer = buffer

    @property
    def is_done(self) -> bool:
        return bool(self._request.completed)

    @property
    def is_ok(self) -> bool:
        try:
            self._request.check_error()
        except Exception:  # ucxx has a class of its own for every UCX status
            return False
        return self.is_done


class _Arrival:
    __slots__ = ("_found", "_ucxx", "_worker")

    def __init__(self, ucxx: Any, worker: Any, found: Any) -> None:
        self._ucxx = ucxx
        self._worker = worker
        self._found = found

    @property
    def num_bytes(self) -> int:
        return int(self._found.length)

    @property
    def sender(self) -> int:
        return int(self._found.sender_tag.value) >> _SENDER_SHIFT

    def receive(self, buffer: Slot) -> _Operation:
        part = buffer[: self.num_bytes]
        return _Operation(
            self._worker.tag_recv_with_handle(self._ucxx.Array(part), self._found), part
        )


class _UcxPeer:
    def __init__(self, ucxx: Any, endpoint: Any, sender: int) -> None:
        self._ucxx = ucxx
        self._endpoint = endpoint
        self._tags = {kind: ucxx.UCXXTag(kind | sender << _SENDER_SHIFT) for kind in Kind}

    def send(self, kind: Kind, buffer: Slot) -> _Operation:
        request = self._endpoint.tag_send(self._ucxx.Array(buffer), self._tags[kind])
        return _Operation(request, buffer)

    def close(self) -> None:
        self._endpoint.close_blocking(_CLOSE_STEP_NANOSECONDS, _CLOSE_STEPS)


class UcxTransport:
    """See `Transport`. `config` holds UCX settings without their UCX_ prefix; the
    environment's UCX_TLS and UCX_NET_DEVICES go before it.
    """

    def __init__(self, config: Mapping[str, str] | None = None) -> None:
        self._ucxx = ucxx = _load_ucxx()
        settings = {"TLS": "^cma", **(config or {})}
        settings = {key: os.environ.get(f"UCX_{key}", value) for key, value in settings.items()}
        features = (ucxx.Feature.TAG, ucxx.Feature.AM, ucxx.Feature.WAKEUP)
        try:
            self._context = ucxx.UCXContext(settings, feature_flags=features)
            self._worker = ucxx.UCXWorker(self._context)
            self._worker.init_blocking_progress_mode()
        except Exception as error:
            raise TransportUnavailable(f"UCX offers no transport here: {error}") from error
        self._host = _host_id()
        self._tags = {kind: ucxx.UCXXTag(int(kind)) for kind in Kind}
        self._mask = ucxx.UCXXTagMask(_KIND_MASK)
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._worker.epoll_file_descriptor, select.EPOLLIN)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._is_closed = False

    @property
    def address(self) -> bytes:
        worker: bytes = self._worker.address.tobytes()
        return len(self._host).to_bytes() + self._host + worker

    @property
    def transports(self) -> str:
        """What UCX has on this machine, for the log."""
        lines = (line.split() for line in self._context.info.splitlines())
        names = {word.partition("/")[0] for words in lines for word in words if "/" in word}
        return " ".join(sorted(names - {"cma"}))

    def connect(self, address: bytes) -> Peer:
        host, rest = address[1 : 1 + address[0]], address[1 + address[0] :]
        try:
            remote = self._ucxx.UCXAddress.create_from_buffer(rest)
            endpoint = self._ucxx.UCXEndpoint.create_from_worker_address(
                self._worker, remote, endpoint_error_handling=host != self._host
            )
        except Exception as error:
            raise TransportUnavailable(f"no UCX connection to that address: {error}") from error
        return _UcxPeer(self._ucxx, endpoint, sender_id(self.address))

    def probe(self, kind: Kind) -> Arrival | None:
        found = self._worker.tag_probe(self._tags[kind], self._mask, True)
        return _Arrival(self._ucxx, self._worker, found) if found.matched else None

    def poll(self, timeout_seconds: float) -> bool:
        steps = 0
        while steps < _MAX_STEPS and self._worker.progress_once():
            steps += 1
        if steps or timeout_seconds <= 0 or not self._worker.arm():
            return steps > 0
        events = self._epoll.poll(timeout_seconds)
        if any(fd == self._wake_fd for fd, _ in events):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        return bool(events)

    def wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._worker.cancel_inflight_requests(_CLOSE_STEP_NANOSECONDS, _CLOSE_STEPS)
        self._epoll.close()
        os.close(self._wake_fd)
        del self._worker, self._context
