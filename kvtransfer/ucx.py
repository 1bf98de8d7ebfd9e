"""The transport over UCX, by ucxx's low-level API and worker addresses.

Endpoints made from worker addresses let UCX choose: shared memory inside a host, RDMA or
TCP between hosts. Four things are decided here so that one process's death never takes
another with it, nor any of its memory:

- CMA is left out. UCX aborts the process when the peer of a CMA read has died.
- Endpoints to other hosts handle errors, those inside a host do not: with error handling
  UCX offers no shared memory at all. There the kernel tells of the peer's death.
- Links inside a host have a UCX context with nothing but shared memory. Else UCX adds lanes
  over TCP, and when these notice the peer's death without error handling, the next message
  of the peer ends this process.
- Each link has a UCX worker of its own. Without error handling, operations with a dead peer
  never end; destroying their UCX worker ends them.

UCX does not wake a sleeping sender when its peer has made room, so callers poll often while
operations are under way and may sleep long when there are none.

What comes to the transport's own inbox should be small: after a message of more than 8 KiB
UCX keeps an endpoint back to its sender, and that endpoint's memory, until the transport is
closed.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kvtransfer.errors import TransportUnavailable
from kvtransfer.peer_process import PeerProcess, ProcessId, ProcessWatch
from kvtransfer.transport import Arrival, Kind
from kvtransfer.ucx_address import UcxAddress, host_id
from kvtransfer.ucx_inbox import UcxInbox
from kvtransfer.ucx_library import load_ucxx
from kvtransfer.ucx_limits import files_open, num_links
from kvtransfer.ucx_link import UcxLink
from kvtransfer.ucx_settings import (
    between_hosts,
    from_environment,
    inside_a_host,
    transports_in,
    warning_about,
)

SPIN_SECONDS = 50e-6
LOOK_SECONDS = 0.1


class UcxTransport:
    """See `Transport`. `config` holds UCX settings without their UCX_ prefix. A TLS setting,
    also the environment's UCX_TLS, holds inside a host as well as between hosts. `host` is
    what the transports of one host share; tests set it to have several hosts in one.

    `transports` are what UCX may use on this machine, for the log, and `warning` is what the
    user should know about them, or None. `max_links` follows the limit of open files.

    Raises TransportUnavailable.
    """

    def __init__(self, config: Mapping[str, str] | None = None, host: bytes | None = None) -> None:
        self._ucxx = load_ucxx()
        self._epoll = select.epoll()
        self._inboxes: dict[int, UcxInbox] = {}
        self._awake: set[UcxInbox] = set()
        self._moved_at = self._looked_at = time.monotonic()
        self._is_closed = False
        num_files = files_open()
        try:
            self._open_contexts(config or {})
            self._inbox = UcxInbox(self._ucxx, self._context, self)
        except Exception as error:
            self._epoll.close()
            raise TransportUnavailable(f"UCX offers no transport here: {error}") from error
        self.max_links = num_links(files_each=files_open() - num_files)
        here = host_id() if host is None else host
        self._here = UcxAddress(here, ProcessId.of(os.getpid()), self._inbox.worker_address)
        self.address = self._here.pack()
        self._processes = ProcessWatch()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._processes.fd, select.EPOLLIN)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._watch(self._inbox)

    def connect(self, address: bytes) -> UcxLink:
        there = UcxAddress.unpack(address)
        is_near = there.host == self._here.host and self._near_context is not None
        context = self._near_context if is_near else self._context
        process = self._process_of(there) if is_near else None
        try:
            link = UcxLink(self._ucxx, context, self, self._here, there, process)
        except TransportUnavailable:
            if process is not None:
                process.close()
            raise
        self._watch(link)
        return link

    def probe(self, kind: Kind) -> Arrival | None:
        return self._inbox.probe(kind)

    def poll(self, timeout_seconds: float) -> bool:
        if self._notice(self._epoll.poll(0)) | self._progress():
            return True
        if timeout_seconds <= 0:
            return False
        return self._spin() or not self._fall_asleep() or self._sleep(timeout_seconds)

    def wake(self) -> None:
        if not self._is_closed:
            os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for inbox in list(self._inboxes.values()):
            inbox.close()
        self._processes.close()
        self._epoll.close()
        os.close(self._wake_fd)
        del self._context, self._near_context

    def _open_contexts(self, config: Mapping[str, str]) -> None:
        settings = {**from_environment(os.environ), **config}
        self._context = self._new_context(between_hosts(settings))
        self.transports = transports_in(self._context.info)
        self.warning = warning_about(self.transports)
        near = inside_a_host(settings, self.transports)
        self._near_context = None if near is None else self._new_context(near)

    def _new_context(self, settings: dict[str, str]) -> Any:
        features = (self._ucxx.Feature.TAG, self._ucxx.Feature.AM, self._ucxx.Feature.WAKEUP)
        return self._ucxx.UCXContext(settings, feature_flags=features)

    def _process_of(self, there: UcxAddress) -> PeerProcess:
        process = self._processes.add(there.process)
        if process.is_gone:
            process.close()
            raise TransportUnavailable("the process at that address has gone")
        return process

    def _watch(self, inbox: UcxInbox) -> None:
        self._inboxes[inbox.fd] = inbox
        self._awake.add(inbox)
        self._epoll.register(inbox.fd, select.EPOLLIN)

    def forget(self, inbox: UcxInbox) -> None:
        """See `InboxOwner`."""
        if self._inboxes.pop(inbox.fd, None):
            self._epoll.unregister(inbox.fd)
        self._awake.discard(inbox)

    def wake_up(self, inbox: UcxInbox) -> None:
        """See `InboxOwner`."""
        self._awake.add(inbox)

    def _progress(self) -> bool:
        """A turn for each inbox that may have something to do, and now and then for all."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            self._processes.look()
            self._awake.update(self._inboxes.values())
        moved = False
        for inbox in list(self._awake):
            moved |= inbox.progress()
        if moved:
            self._moved_at = now
        return moved

    def _spin(self) -> bool:
        """Where something moved just now, the next thing is often near."""
        until = self._moved_at + SPIN_SECONDS
        while time.monotonic() < until:
            if self._progress():
                return True
        return False

    def _fall_asleep(self) -> bool:
        """False if an inbox has something to do first."""
        if not all(inbox.arm() for inbox in self._awake):
            return False
        self._awake = {inbox for inbox in self._awake if inbox.is_busy}
        return True

    def _sleep(self, seconds: float) -> bool:
        events = self._epoll.poll(seconds)
        self._notice(events)
        return bool(events)

    def _notice(self, events: Sequence[tuple[int, int]]) -> bool:
        """Whether there was anything but inboxes to wake up; their turns come."""
        is_news = False
        for fd, _ in events:
            if inbox := self._inboxes.get(fd):
                self._awake.add(inbox)
            elif fd == self._wake_fd:
                os.eventfd_read(fd)
                is_news = True
            else:
                self._processes.look()
                is_news = True
        return is_news
