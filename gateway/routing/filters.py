"""Who cannot be chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from gateway.routing.columns import Flags
from gateway.routing.scene import Scene

# Of the median worker's speed.
SLOW_SHARE = 0.25

Filter = Callable[[Scene], Flags]


def has_capacity(scene: Scene) -> Flags:
    """Its cache can hold the request when it has nothing else to do."""
    fits: Flags = scene.table.columns.kv_tokens >= scene.query.num_prompt_tokens
    return fits


def has_credit(scene: Scene) -> Flags:
    """Its cache has room for the request that is promised to nobody."""
    return scene.table.has_credit(scene.query.kv_tokens)


def is_not_slow(scene: Scene) -> Flags:
    """It computes prompts at least at a quarter of the middle worker's speed."""
    seconds = scene.table.columns.prefill_token
    known = seconds[seconds > 0]
    keeps: Flags = SLOW_SHARE * seconds <= (float(np.median(known)) if len(known) else np.inf)
    return keeps


FILTERS: Mapping[str, Filter] = MappingProxyType(
    {"capacity": has_capacity, "credit": has_credit, "not-slow": is_not_slow}
)
