"""What vLLM's NixlConnector is told of a hand-off, in its own words.

Its decode side pulls: it must know which blocks hold the prompt, so that the prefill leg ends
first and says so. Written against vllm/distributed/kv_transfer/kv_connector/v1/nixl of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from proto.ticket import Ticket

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
    """What a prefill leg has said of the KV that it keeps: blocks by group of layers."""

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

    @property
    def address(self) -> NixlAddress:
        return NixlAddress(
            self.remote_engine_id, self.remote_host, self.remote_port, self.tp_size, self.pp_size
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


def decode_params(ticket: Ticket, said: Mapping[str, Any]) -> dict[str, Any]:
    """The decode leg pulls the KV from where the prefill leg has said that it is.

    Raises ValueError if that is not the ticket's source, or not all of the ticket's prompt.
    """
    if not said:
        raise ValueError("the prefill worker has not said where the KV is")
    try:
        source = msgspec.convert(dict(said), NixlSource)
    except msgspec.ValidationError as error:
        raise ValueError(f"what the prefill worker said cannot be read: {error}") from error
    if source.address.encode() not in ticket.source_addresses:
        raise ValueError("the KV is on another engine than the ticket is for")
    if source.remote_num_tokens < ticket.num_tokens:
        raise ValueError(f"the KV is of {source.remote_num_tokens} tokens of {ticket.num_tokens}")
    return {
        "leg": "decode",
        "do_remote_decode": False,
        "do_remote_prefill": True,
        "ticket": ticket.id,
        **msgspec.to_builtins(source),
    }
