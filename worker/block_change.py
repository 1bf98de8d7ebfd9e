"""What changes in an engine's prefix cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from fleet.tier import Tier


class Kind(Enum):
    STORED = "stored"
    REMOVED = "removed"
    CLEARED = "cleared"  # nothing is held on this tier


@dataclass(frozen=True, slots=True)
class BlockChange:
    """`keys`: 64-bit block keys, as `proto.block_key` makes them; none if CLEARED."""

    kind: Kind
    tier: Tier
    keys: Sequence[int] = ()
