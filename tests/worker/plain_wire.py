"""vLLM's encoding of requests and outputs, without vLLM: structs as arrays, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
FINISH_POSITION, PARAMS_POSITION = 5, 8


@dataclass(frozen=True, slots=True)
class Output:
    request_id: str
    tokens: tuple[int, ...]
    finish: str | None
    transfer_params: Any = field(default=None, repr=False)


def encode_request(
    prompt: Sequence[int], *, cache_salt: str | None = None, **sampling: object
) -> bytes:
    """EngineCoreRequest up to its last field without a default."""
    sampling = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 4, **sampling}
    fields = ("any id", list(prompt), None, sampling, None, 0.0, None, cache_salt, None)
    return msgspec.msgpack.encode(fields)


def decode_outputs(frames: Sequence[bytes]) -> list[Output]:
    """EngineCoreOutputs with everything in its first frame."""
    _, outputs, *_ = msgspec.msgpack.decode(frames[0])
    return [
        Output(fields[0], tuple(fields[1]), finish_of(fields), at(fields, PARAMS_POSITION))
        for fields in outputs
    ]


def finish_of(fields: Sequence[Any]) -> str | None:
    reason = at(fields, FINISH_POSITION)
    return None if reason is None else FINISH_REASONS[reason]


def at(fields: Sequence[Any], position: int) -> Any:
    """None if it is left out, as the last ones are that have their default."""
    return fields[position] if len(fields) > position else None
