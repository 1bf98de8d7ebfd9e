"""The prefix index in figures."""

from __future__ import annotations

from typing import Any

from fleet.block_watch import BlockWatch
from fleet.errors import FleetUnavailable
from fleet.prefix_index import PrefixIndex
from fleet.tier import Tier
from gateway.routing.dispatcher import Dispatcher

# What is expected is not told by a worker.
HELD = (Tier.DEVICE, Tier.HOST, Tier.DISK)


class IndexReport:
    """Of this gateway's replica."""

    def __init__(self, watch: BlockWatch, index: PrefixIndex, dispatcher: Dispatcher) -> None:
        self._watch = watch
        self._index = index
        self._dispatcher = dispatcher

    async def content(self) -> dict[str, Any]:
        table, replica = self._watch.replica.table, self._watch.replica
        counts = self._dispatcher.counts
        return {
            "num_blocks": table.num_blocks,
            "num_entries": table.num_entries,
            "num_expected": self._index.num_expected,
            "num_bytes": table.num_bytes,
            "bytes_per_entry": table.num_bytes / table.num_entries if table.num_entries else None,
            "is_current": self._watch.is_current,
            "lag_seconds": await self._lag_seconds(),
            "num_prompt_tokens": counts.prompt_tokens,
            "num_cached_tokens": counts.cached_tokens,
            "hit_rate": counts.hit_rate,
            "workers": {
                worker: {
                    "is_whole": replica.is_whole(worker),
                    **{tier.name.lower(): table.num_held(row, tier) for tier in HELD},
                }
                for worker, row in sorted(replica.rows.items())
            },
        }

    async def _lag_seconds(self) -> float | None:
        """None while the server does not answer."""
        try:
            return await self._watch.lag_seconds()
        except FleetUnavailable:
            return None
