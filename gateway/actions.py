"""What to do about a request: decided synchronously, carried out by the fleet client."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gateway.errors import RequestError
from gateway.request import Request
from proto.ticket import Ticket


class Leg(Enum):
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Submit:
    """Start one leg. `ticket`: of the hand-off that the leg is part of; `transfer_params` is
    msgpack of what the other leg's KV connector said, or empty; `kv_tokens`: room to reserve.
    """

    worker: str
    leg: Leg
    leg_id: str
    request: Request
    ticket: Ticket | None
    transfer_params: bytes = b""
    kv_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reserve:
    """An open leg needs so much room from now on."""

    worker: str
    leg_id: str
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop one leg and free what it holds."""

    worker: str
    leg_id: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """This KV will not come, or is not wanted any more."""

    worker: str
    ticket_id: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the client. The request has ended."""

    request: Request
    error: RequestError


Action = Submit | Reserve | Abort | Revoke | Fail
