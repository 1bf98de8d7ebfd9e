"""Whether the processes at the other ends of links inside a host still run."""

from __future__ import annotations

import contextlib
import os
import select
from dataclasses import dataclass
from pathlib import Path

_STARTED_AT = 19  # among the words after the command's name


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process of this host; `started_at` tells it from a later one of the same number."""

    pid: int
    started_at: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Raises OSError if there is none."""
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(pid, int(words[_STARTED_AT]))


class PeerProcess:
    """A process that is watched until `close`, which is idempotent."""

    def __init__(self, watch: ProcessWatch, fd: int | None, is_gone: bool = False) -> None:
        self.is_gone = is_gone
        self._watch = watch
        self._fd = fd

    def close(self) -> None:
        if self._fd is not None:
            self._watch.forget(self._fd)
            self._fd = None


class ProcessWatch:
    """Notices at once, by one file descriptor a process, when a process has ended.

    `fd` becomes readable then, for whoever sleeps on it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, PeerProcess] = {}
        self.fd = self._epoll.fileno()

    def add(self, process: ProcessId) -> PeerProcess:
        """It is gone already if it does not run now; one that the kernel does not let us watch
        never goes.
        """
        if process.pid == os.getpid():
            return PeerProcess(self, None)
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return PeerProcess(self, None, is_gone=True)
        except OSError:
            return PeerProcess(self, None)
        peer = self._watched[fd] = PeerProcess(self, fd, is_gone=not _runs(process))
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
        return peer

    def forget(self, fd: int) -> None:
        """Nobody asks about this process any more."""
        del self._watched[fd]
        self._epoll.unregister(fd)
        os.close(fd)

    def look(self) -> None:
        """Marks the processes that have gone since the last look."""
        for fd, _ in self._epoll.poll(0):
            self._watched[fd].is_gone = True

    def close(self) -> None:
        for peer in list(self._watched.values()):
            peer.close()
        self._epoll.close()


def _runs(process: ProcessId) -> bool:
    with contextlib.suppress(OSError):
        return ProcessId.of(process.pid) == process
    return False
