"""A look into an engine rank's paged cache."""

from __future__ import annotations

from typing import Any

from kvtransfer.extension import TransferExtension


class WatchedExtension(TransferExtension):
    """See `worker_extension_cls`."""

    model_runner: Any

    def kv_rows(self) -> list[set[bytes]]:
        """For each layer what is in the cache of every token, where that is one vector (MLA)."""
        return [_rows(cache) for cache in self.model_runner.kv_caches]


def _rows(cache: Any) -> set[bytes]:
    rows = cache.flatten(0, 2)
    used = rows[rows.abs().sum(-1) > 0]
    return {row.numpy().tobytes() for row in used}
