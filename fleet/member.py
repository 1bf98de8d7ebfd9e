"""One worker as the fleet sees it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

import msgspec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Role(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Member:
    """One incarnation of a worker. A restarted worker is another incarnation.

    `address` is "host:port" of its gRPC server; `started_at` is in seconds since the epoch.
    Raises ValueError for a name or an address that is none.
    """

    worker_id: str
    incarnation: str
    address: str
    roles: tuple[Role, ...]
    model: str
    vllm_version: str
    pid: int
    started_at: float

    def __post_init__(self) -> None:
        check_name("worker_id", self.worker_id)
        check_name("incarnation", self.incarnation)
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"an address is host:port, not {self.address!r}")
        if not self.roles:
            raise ValueError(f"{self.worker_id} has no role")

    def encode(self) -> bytes:
        """The same bytes for equal members, so that stored copies can be compared."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, record: bytes | str) -> Member:
        """Raises ValueError if the record is not a member."""
        return msgspec.json.decode(record, type=cls)

    def __repr__(self) -> str:
        return f"<Member {self.worker_id}/{self.incarnation[:8]} at {self.address}>"


def new_incarnation() -> str:
    """A name that no other start of any worker has."""
    return secrets.token_hex(8)


def check_name(what: str, name: str) -> None:
    """Raises ValueError unless the name can stand in a key and in a log line."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: use 1 to 128 letters, digits, dots, dashes and underscores"
        )
