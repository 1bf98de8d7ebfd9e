"""The transport over UCX, by ucxx's low-level API and worker addresses.

Endpoints made from worker addresses let UCX choose: shared memory inside a host, RDMA or
TCP between hosts. Four things are decided here so that one process's death never takes
another with it, nor any of its memory:

- CMA is left out. UCX aborts the process when the peer of a CMA read has died.
- Endpoints to other hosts handle errors, those inside a host do not: with error handling
  UCX offers no shared memory at all.
- Links inside a host have a UCX context with nothing but shared memory. Else UCX adds lanes
  over TCP, and when these notice the peer's death without error handling, the next message
  of the peer ends this process.
- Each link has a UCX worker of its own. Without error handling, operations with a dead peer
  never end; destroying their UCX worker ends them.

UCX does not wake a sleeping sender when its peer has made room, so callers poll often while
operations are under way and may sleep long when there are none.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kvtransfer.errors import TransportUnavailable
from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Kind, Link

INSIDE_A_HOST = "self,sysv"
_WHOLE_TAG = (1 << 64) - 1
_CANCEL_STEP_NANOSECONDS = 1_000_000
_CANCEL_STEPS = 10
_MAX_STEPS = 64
_CHECKSUM_BYTES = 4
_MAX_REFUSALS = 4096


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
    """Equal for two processes that can share memory: same boot, host name and namespaces."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts += [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("ipc", "pid")]
    return "/".join(parts).encode()


def _pack_address(host: bytes, worker: bytes) -> bytes:
    """With a checksum, because UCX aborts the process that is given a damaged address."""
    body = len(host).to_bytes() + host + worker
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES) + body


def _unpack_address(address: bytes) -> tuple[bytes, bytes]:
    """The host's id and the UCX worker's address."""
    checksum, body = address[:_CHECKSUM_BYTES], address[_CHECKSUM_BYTES:]
    if not body or zlib.crc32(body).to_bytes(_CHECKSUM_BYTES) != checksum:
        raise TransportUnavailable(f"{len(address)} bytes that are no address of ours")
    return body[1 : 1 + body[0]], body[1 + body[0] :]


class _Operation:
    __slots__ = ("_buffer", "_inbox", "_request")

    def __init__(self, inbox: _UcxInbox, request: Any, buffer: Slot) -> None:
        self._inbox = inbox
        self._request = request
        self._buffer = buffer

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

    def __init__(self, inbox: _UcxInbox, found: Any) -> None:
        self._inbox = inbox
        self._found = found

    @property
    def num_bytes(self) -> int:
        return int(self._found.length)

    def receive(self, buffer: Slot) -> _Operation:
        part = buffer[: self.num_bytes]
        request = self._inbox.worker.tag_recv_with_handle(self._inbox.ucxx.Array(part), self._found)
        return _Operation(self._inbox, request, part)


class _UcxInbox:
    """A UCX worker, registered with the epoll that the transport sleeps on."""

    def __init__(self, ucxx: Any, context: Any, epoll: select.epoll, host: bytes) -> None:
        self.ucxx = ucxx
        self.worker = ucxx.UCXWorker(context)
        self.worker.init_blocking_progress_mode()
        self.is_closed = False
        self.address = _pack_address(host, self.worker.address.tobytes())
        self._tags = {kind: ucxx.UCXXTag(int(kind)) for kind in Kind}
        self._mask = ucxx.UCXXTagMask(_WHOLE_TAG)
        self._epoll = epoll
        self._fd = self.worker.epoll_file_descriptor
        epoll.register(self._fd, select.EPOLLIN)

    def probe(self, kind: Kind) -> Arrival | None:
        if self.is_closed:
            return None
        found = self.worker.tag_probe(self._tags[kind], self._mask, True)
        return _Arrival(self, found) if found.matched else None

    def progress(self) -> bool:
        steps = 0
        while steps < _MAX_STEPS and self.worker.progress_once():
            steps += 1
        return steps > 0

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._epoll.unregister(self._fd)
        refused = self._refuse_arrivals()
        self.worker.cancel_inflight_requests(_CANCEL_STEP_NANOSECONDS, _CANCEL_STEPS)
        refused.clear()
        self.worker = None

    def _refuse_arrivals(self) -> list[_Operation]:
        """Takes what has come into no buffer, which ends at once. ucxx would receive all of it
        before it destroys a worker, and wait for ever for a sender that is dead.
        """
        refused: list[_Operation] = []
        nothing = np.zeros(0, np.uint8)
        for _ in range(_MAX_REFUSALS):
            moved = self.progress()
            found = self.worker.tag_probe(self.ucxx.UCXXTag(0), self.ucxx.UCXXTagMask(0), True)
            if found.matched:
                refused.append(_Arrival(self, found).receive(nothing))
            elif not moved:
                break
        return refused


class _UcxLink(_UcxInbox):
    is_broken = False

    def __init__(
        self,
        ucxx: Any,
        context: Any,
        epoll: select.epoll,
        host: bytes,
        remote: bytes,
        handles_errors: bool,
    ) -> None:
        try:
            super().__init__(ucxx, context, epoll, host)
        except Exception as error:
            raise TransportUnavailable(f"UCX can open no more links: {error}") from error
        self._handles_errors = handles_errors
        try:
            self._endpoint = ucxx.UCXEndpoint.create_from_worker_address(
                self.worker,
                ucxx.UCXAddress.create_from_buffer(remote),
                endpoint_error_handling=handles_errors,
            )
        except Exception as error:
            self.close()
            raise TransportUnavailable(f"no UCX link to that address: {error}") from error

    def send(self, kind: Kind, buffer: Slot) -> _Operation:
        request = self._endpoint.tag_send(self.ucxx.Array(buffer), self._tags[kind])
        return _Operation(self, request, buffer)

    def close(self) -> None:
        if not self.is_closed and hasattr(self, "_endpoint"):
            if self._endpoint.alive:  # ucxx cannot close one that has failed
                self._close_endpoint()
            self._endpoint = None
        super().close()

    def _close_endpoint(self) -> None:
        """Without error handling the end of it may never come, so it is not waited for."""
        if self._handles_errors:
            self._endpoint.close_blocking(_CANCEL_STEP_NANOSECONDS, _CANCEL_STEPS)
        else:
            self._endpoint.close()


class UcxTransport:
    """See `Transport`. `config` holds UCX settings without their UCX_ prefix. A TLS setting,
    also the environment's UCX_TLS, holds inside a host as well as between hosts. `host` is
    what the transports of one host share; tests set it to have several hosts in one.
    """

    max_links = 256

    def __init__(self, config: Mapping[str, str] | None = None, host: bytes | None = None) -> None:
        self._ucxx = _load_ucxx()
        settings = dict(config or {})
        if tls := os.environ.get("UCX_TLS"):
            settings.setdefault("TLS", tls)
        self._host = _host_id() if host is None else host
        self._links: list[_UcxLink] = []
        self._is_closed = False
        self._epoll = select.epoll()
        try:
            self._context = self._new_context({"TLS": "^cma", **settings})
            near = {key: value for key, value in settings.items() if key != "NET_DEVICES"}
            self._near_context = self._new_context({"TLS": "self,sysv", **near})
            self._inbox = _UcxInbox(self._ucxx, self._context, self._epoll, self._host)
        except Exception as error:
            self._epoll.close()
            raise TransportUnavailable(f"UCX offers no transport here: {error}") from error
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)

    @property
    def address(self) -> bytes:
        return self._inbox.address

    @property
    def transports(self) -> str:
        """What UCX may use on this machine, for the log."""
        words = (line.split() for line in self._context.info.splitlines())
        names = {name.partition("/")[0] for line in words for name in line if "/" in name}
        return " ".join(sorted(names - {"cma"}))

    def connect(self, address: bytes) -> Link:
        host, worker = _unpack_address(address)
        is_near = host == self._host
        context = self._near_context if is_near else self._context
        link = _UcxLink(self._ucxx, context, self._epoll, self._host, worker, not is_near)
        self._links = [each for each in self._links if not each.is_closed]
        self._links.append(link)
        return link

    def probe(self, kind: Kind) -> Arrival | None:
        return self._inbox.probe(kind)

    def poll(self, timeout_seconds: float) -> bool:
        inboxes = [self._inbox, *(link for link in self._links if not link.is_closed)]
        moved = False
        for inbox in inboxes:
            moved |= inbox.progress()
        if moved or timeout_seconds <= 0:
            return moved
        if not all(inbox.worker.arm() for inbox in inboxes):
            return True
        events = self._epoll.poll(timeout_seconds)
        if any(fd == self._wake_fd for fd, _ in events):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        return bool(events)

    def wake(self) -> None:
        if not self._is_closed:
            os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for link in self._links:
            link.close()
        self._inbox.close()
        self._epoll.close()
        os.close(self._wake_fd)
        del self._context, self._near_context

    def _new_context(self, settings: dict[str, str]) -> Any:
        features = (self._ucxx.Feature.TAG, self._ucxx.Feature.AM, self._ucxx.Feature.WAKEUP)
        return self._ucxx.UCXContext(settings, feature_flags=features)
