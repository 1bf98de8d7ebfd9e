"""Keys, tickets, layouts and prompts with sensible contents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from proto.fleet_key import FleetKey
from proto.layout import KvLayout
from proto.prompt_digest import prompt_digest
from proto.ticket import Ticket

KEY = FleetKey(bytes(range(32)))
OTHER_KEY = FleetKey(bytes(range(1, 33)))
TICKET_ID = bytes(range(16))
LAYOUT = KvLayout(
    block_size=16, num_heads=2, content_size=8, key_size=4, dtype="bfloat16", stage_layers=(2,)
)
SMALLER_BLOCKS = replace(LAYOUT, block_size=8)
FLOAT_LAYOUT = replace(LAYOUT, dtype="float32")


@dataclass(frozen=True)
class Place:
    offset: int
    length: int


@dataclass(frozen=True)
class Picture:
    identifier: str
    mm_position: Place


@dataclass(frozen=True)
class Adapter:
    lora_name: str


@dataclass(frozen=True)
class Prompt:
    """See `proto.prompt_digest.Prompt`."""

    prompt_token_ids: Sequence[int] | None = (1, 2, 3)
    mm_features: Sequence[Picture] | None = None
    lora_request: Adapter | None = None
    cache_salt: str | None = None


PROMPT = Prompt()


def make_ticket(key: FleetKey = KEY, **changes: Any) -> Ticket:
    """Of `PROMPT`, by worker-0/abc; signed."""
    ticket = Ticket(
        id=TICKET_ID,
        source_worker="worker-0",
        source_incarnation="abc",
        source_addresses=(b"there",),
        model_fingerprint="model",
        layout_fingerprint=LAYOUT.fingerprint,
        prompt_digest=prompt_digest(PROMPT),
        num_tokens=3,
        expires_at=time.time() + 30.0,
        lease_seconds=30.0,
    )
    return replace(ticket, **changes).signed(key)
