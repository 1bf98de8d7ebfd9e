"""The address of an inbox over UCX: the host, the process, and UCX's own address."""

from __future__ import annotations

import contextlib
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from kvtransfer.errors import TransportUnavailable
from kvtransfer.peer_process import ProcessId

_CHECKSUM_BYTES = 4
_PROCESS = struct.Struct("<IQ")


@dataclass(frozen=True, slots=True)
class UcxAddress:
    """`host` is equal for processes that can share memory, `worker` is UCX's."""

    host: bytes
    process: ProcessId
    worker: bytes

    def pack(self) -> bytes:
        """With a checksum, because UCX aborts the process that is given a damaged address."""
        process = _PROCESS.pack(self.process.pid, self.process.started_at)
        body = len(self.host).to_bytes() + self.host + process + self.worker
        return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES) + body

    @classmethod
    def unpack(cls, address: bytes) -> UcxAddress:
        """Raises TransportUnavailable."""
        checksum, body = address[:_CHECKSUM_BYTES], address[_CHECKSUM_BYTES:]
        if not body or zlib.crc32(body).to_bytes(_CHECKSUM_BYTES) != checksum:
            raise TransportUnavailable(f"{len(address)} bytes that are no address of ours")
        host, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if len(rest) <= _PROCESS.size:
            raise TransportUnavailable(f"{len(address)} bytes are too few for an address")
        return cls(host, ProcessId(*_PROCESS.unpack_from(rest)), rest[_PROCESS.size :])


def host_id() -> bytes:
    """Equal for two processes that can share memory: same boot, host name and namespaces."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts += [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("ipc", "pid")]
    return "/".join(parts).encode()
