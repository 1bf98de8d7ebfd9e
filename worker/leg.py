"""One leg of a request: prefill, which ends with the prompt's KV, or decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from fleet.member import Role
from kvtransfer import nixl
from kvtransfer.handoff import DecodeHandoff, PrefillHandoff, to_params
from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.ticket import Ticket
from worker.errors import BadRequest, ForeignTransfer, TicketRefused

__all__ = [
    "Leg",
    "Order",
    "Role",
    "extra_args",
    "role_of",
    "to_proto_role",
    "transfer_params",
]

PROTO_ROLES: Mapping[Role, worker_pb2.Role] = MappingProxyType(
    {Role.PREFILL: worker_pb2.ROLE_PREFILL, Role.DECODE: worker_pb2.ROLE_DECODE}
)
# Parameters of a connector in a request are Baton's, never the client's.
TRANSFER_ARGS = ("kv_transfer_params", "ec_transfer_params")
ROLES: Mapping[int, Role] = MappingProxyType({int(v): k for k, v in PROTO_ROLES.items()})


@dataclass(frozen=True, slots=True)
class Leg:
    """How a worker runs the legs of one role.

    `sampling` takes the place of the client's sampling parameters; None keeps them.
    """

    role: Role
    max_open_requests: int
    sampling: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One leg as the engine is to run it.

    `frames` are vLLM's msgpack of an EngineCoreRequest, whose own id does not count.
    `ticket`: of the hand-off that it is part of; `refusal` says why it runs without its own.
    `peer_params` is msgpack of what the other leg's KV connector said, or empty.
    """

    engine_id: str
    leg: Leg
    frames: tuple[bytes, ...] = field(repr=False)
    ticket: Ticket | None = None
    refusal: TicketRefused | None = None
    peer_params: bytes = b""


def role_of(leg: int) -> Role | None:
    """None for a leg that this version does not know."""
    return ROLES.get(leg)


def to_proto_role(role: Role) -> worker_pb2.Role:
    return PROTO_ROLES[role]


def transfer_params(
    order: Order, key: FleetKey, kv_connector: str = "baton"
) -> dict[str, Any] | None:
    """What the KV connector is told of the hand-off; `key` is the fleet's.

    Raises BadRequest and ForeignTransfer.
    """
    ticket = order.ticket
    if ticket is None:
        return None
    if kv_connector == "nixl":
        return nixl_params(order, ticket, key)
    if order.leg.role is Role.PREFILL:
        return to_params(PrefillHandoff(ticket.id, ticket.lease_seconds))
    handoff = DecodeHandoff(ticket.id, ticket.lease_seconds, ticket.source, ticket.source_addresses)
    return {**peer_params(order.peer_params), **to_params(handoff)}


def nixl_params(order: Order, ticket: Ticket, key: FleetKey) -> dict[str, Any]:
    if order.leg.role is Role.PREFILL:
        return nixl.prefill_params(ticket)
    try:
        return nixl.decode_params(ticket, peer_params(order.peer_params), key)
    except ValueError as error:
        raise ForeignTransfer(str(error)) from error


def peer_params(encoded: bytes) -> dict[str, Any]:
    """Raises BadRequest."""
    if not encoded:
        return {}
    try:
        return msgspec.msgpack.decode(encoded, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise BadRequest("the transfer parameters cannot be decoded") from error


def extra_args(
    given: Mapping[str, Any] | None, transfer: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """A request's extra sampling arguments, once the hand-off is Baton's."""
    kept = {name: value for name, value in (given or {}).items() if name not in TRANSFER_ARGS}
    if transfer is not None:
        kept["kv_transfer_params"] = dict(transfer)
    return kept or None
