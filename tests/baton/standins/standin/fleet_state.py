"""The fleet's state over a bare socket: the client library takes too long to import."""

from __future__ import annotations

import socket

from fleet.keys import FleetKeys
from fleet.member import Member

LEASE_SECONDS = 2


class FleetState:
    """One connection per call, to the unix socket of a URL. Raises OSError."""

    def __init__(self, url: str, fleet: str) -> None:
        self._path = url.removeprefix("unix://")
        self._keys = FleetKeys(fleet)

    def join(self, member: Member) -> None:
        record = ("SET", self._keys.worker(member.worker_id), member.encode().decode())
        self._call(*record, "EX", str(LEASE_SECONDS))
        self._call("SADD", self._keys.index, member.worker_id)

    def leave(self, member: Member) -> None:
        self._call("DEL", self._keys.worker(member.worker_id))
        self._call("SREM", self._keys.index, member.worker_id)

    def num_members(self) -> int:
        return int(self._call("SCARD", self._keys.index)[1:])

    def _call(self, *words: str) -> bytes:
        """The reply, as it came: one line is enough for these."""
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self._path)
            server.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return server.recv(4096)
