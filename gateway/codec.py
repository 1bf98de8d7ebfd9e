"""What the fleet client needs to know of vLLM's outputs, without importing vLLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

GOOD_ENDS = frozenset({"stop", "length", "repetition"})


class Output(Protocol):
    """What one engine step brought for one leg.

    `finish_reason` None: more follows. Its str() is one of GOOD_ENDS, "abort" or "error".
    `kv_transfer_params`: what a KV connector has to say to that of the other leg.
    """

    request_id: str
    new_token_ids: Sequence[int]
    finish_reason: object
    kv_transfer_params: dict[str, Any] | None


class StepOutputs(Protocol):
    """What one engine step brought."""

    outputs: list[Output]


# Raises ValueError for frames that are not outputs.
DecodeOutputs = Callable[[Sequence[bytes]], StepOutputs]


def transfer_params_of(output: Output) -> bytes:
    """Msgpack; empty if there are none."""
    params = output.kv_transfer_params
    return msgspec.msgpack.encode(params) if params else b""


def ended_well(output: Output) -> bool:
    """Whether a finished leg has done what was asked of it."""
    return str(output.finish_reason) in GOOD_ENDS
