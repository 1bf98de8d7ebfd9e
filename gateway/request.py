"""What the front half asks the fleet to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.tier import BlockKeys
from gateway.exchange import Exchange

CHILD_ID = re.compile(r"\d+_(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to generate.

    `frames` is the encoded engine request, the same for both legs. `can_hand_off`: KV
    computed elsewhere would serve it, and `prompt_digest` says of what prompt. `exchange` is
    the HTTP request it came from, if any. `max_tokens`: of the answer, None if its client set no
    limit. `block_keys`: of the prompt, by tokens in a block. `session` and `lora`: names, or
    empty. A lower `priority` goes first; `deadline`: of its first token, on the steady clock.
    """

    request_id: str
    num_prompt_tokens: int
    can_hand_off: bool
    frames: tuple[bytes, ...] = field(default=(), repr=False)
    prompt_digest: bytes = field(default=b"", repr=False)
    exchange: Exchange | None = field(default=None, repr=False)
    max_tokens: int | None = None
    block_keys: Mapping[int, BlockKeys] = field(default_factory=dict, repr=False)
    session: str = ""
    lora: str = ""
    priority: int = 0
    deadline: float | None = None

    @property
    def parent_id(self) -> str | None:
        """The id that the choices of one prompt share; None if there is one choice."""
        match = CHILD_ID.fullmatch(self.request_id)
        return match.group(1) if match else None


def prefill_leg_id(request_id: str, number: int) -> str:
    """The id at the worker of a request's prefill leg, of which there may be several, one after
    the other. The decode leg's is the request id itself.
    """
    return f"prefill:{request_id}" if number <= 1 else f"prefill-{number}:{request_id}"
