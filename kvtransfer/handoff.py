"""What a request says of its hand-off, in vLLM's `kv_transfer_params`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kvtransfer.messages import MAX_LEASE_SECONDS

TicketId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_LEASE_SECONDS)]


class PrefillHandoff(msgspec.Struct, frozen=True, tag_field="leg", tag="prefill"):
    """This worker computes the prompt, and sends its KV to whoever shows the ticket."""

    ticket: TicketId
    lease_seconds: Seconds


class DecodeHandoff(msgspec.Struct, frozen=True, tag_field="leg", tag="decode"):
    """This worker fetches the prompt's KV from `source` and computes what is missing."""

    ticket: TicketId
    lease_seconds: Seconds
    source: str
    source_addresses: Annotated[tuple[bytes, ...], Meta(min_length=1)]


Handoff = PrefillHandoff | DecodeHandoff


def to_params(handoff: Handoff) -> dict[str, Any]:
    """The form that `from_params` reads."""
    params: dict[str, Any] = msgspec.to_builtins(handoff, builtin_types=(bytes,))
    return params


def from_params(params: Mapping[str, Any] | None) -> Handoff | None:
    """None for a request without a hand-off of ours. Raises ValueError for a malformed one.

    Bytes must be bytes: no text is decoded to them, so a client's JSON is never a hand-off.
    """
    if not params:
        return None
    if not isinstance(params, Mapping):
        raise ValueError(f"kv_transfer_params are a mapping, not a {type(params).__name__}")
    if "leg" not in params:
        return None
    try:
        handoff: Handoff = msgspec.convert(dict(params), Handoff, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise ValueError(f"malformed hand-off: {error}") from error
    return handoff
