"""What vLLM's NixlConnector is told of a hand-off, in its own words.

Its decode side pulls: it must know which blocks hold the prompt, so that the prefill leg ends
first and says so. Written against vllm/distributed/kv_transfer/kv_connector/v1/nixl of vLLM 0.32.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kvtransfer.handoff import TicketId
from proto.canonical import encode
from proto.fleet_key import FleetKey
from proto.ticket import Ticket

PURPOSE = "nixl source"
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=4096)]
BlockId = Annotated[int, Meta(ge=0)]


class NixlAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an engine's NIXL agents are asked for, and how many there are."""

    engine_id: Name
    host: Name
    port: Port
    tp_size: Count = 1
    pp_size: Count = 1

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, encoded: bytes) -> NixlAddress:
        """Raises ValueError."""
        return msgspec.json.decode(encoded, type=cls)


class NixlSource(msgspec.Struct, frozen=True):
    """What a prefill leg has said of the KV that it keeps for `ticket`: blocks by group of layers.

    `mac` is the fleet's, over all other fields.
    """

    ticket: TicketId
    remote_engine_id: Name
    remote_request_id: Name
    remote_host: Name
    remote_port: Port
    remote_block_ids: tuple[tuple[BlockId, ...], ...]
    remote_num_tokens: Annotated[int, Meta(ge=0)]
    tp_size: Count
    pp_size: Count
    dcp_size: Literal[1] = 1
    transfer_mode: Literal["pull"] = "pull"
    mac: bytes = b""

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> NixlSource:
        """From a connector's parameters, whatever else they say. Raises ValueError."""
        return msgspec.convert(dict(said), cls, builtin_types=(bytes,))

    @property
    def address(self) -> NixlAddress:
        return NixlAddress(
            self.remote_engine_id, self.remote_host, self.remote_port, self.tp_size, self.pp_size
        )

    def sign(self, key: FleetKey) -> bytes:
        """The MAC that this must bear."""
        return key.sign(PURPOSE, self._content())

    def is_signed_by(self, key: FleetKey) -> bool:
        return key.is_valid(PURPOSE, self._content(), self.mac)

    def _content(self) -> bytes:
        groups = self.remote_block_ids
        return encode(
            (
                self.ticket,
                self.remote_engine_id,
                self.remote_request_id,
                self.remote_host,
                self.remote_port,
                len(groups),
                *(struct.pack(f">{len(blocks)}Q", *blocks) for blocks in groups),
                self.remote_num_tokens,
                self.tp_size,
                self.pp_size,
                self.dcp_size,
                self.transfer_mode,
            )
        )


def prefill_params(ticket: Ticket) -> dict[str, Any]:
    """The prefill leg keeps the prompt's KV until it is pulled, or the lease has ended."""
    return {
        "leg": "prefill",
        "do_remote_decode": True,
        "do_remote_prefill": False,
        "ticket": ticket.id,
        "lease_seconds": ticket.lease_seconds,
    }


def signed_params(ticket_id: bytes, said: Mapping[str, Any], key: FleetKey) -> dict[str, Any]:
    """What the prefill leg's connector has said, bound to the ticket. Raises ValueError."""
    bound = {**said, "ticket": ticket_id}
    return {**bound, "mac": NixlSource.read(bound).sign(key)}


def decode_params(ticket: Ticket, said: Mapping[str, Any], key: FleetKey) -> dict[str, Any]:
    """The decode leg pulls the KV from where the prefill leg has said that it is.

    Raises ValueError unless the ticket's source has said it, of this ticket and with the fleet's
    key, and of all of the ticket's prompt.
    """
    if not said:
        raise ValueError("the prefill worker has not said where the KV is")
    try:
        source = NixlSource.read(said)
    except ValueError as error:
        raise ValueError(f"what the prefill worker said cannot be read: {error}") from error
    if not source.is_signed_by(key):
        raise ValueError("what the prefill worker said was not signed with this fleet's key")
    if source.ticket != ticket.id:
        raise ValueError("the KV is another ticket's")
    if source.address.encode() not in ticket.source_addresses:
        raise ValueError("the KV is on another engine than the ticket is for")
    if source.remote_num_tokens < ticket.num_tokens:
        raise ValueError(f"the KV is of {source.remote_num_tokens} tokens of {ticket.num_tokens}")
    pulled: dict[str, Any] = msgspec.to_builtins(source, builtin_types=(bytes,))
    del pulled["mac"]
    return {"leg": "decode", "do_remote_decode": False, "do_remote_prefill": True, **pulled}
