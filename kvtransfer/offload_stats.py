"""What one engine has moved to and from the places for cold KV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# By labels: one number, or a list of observations.
Series = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Offloads:
    """Totals since the start, by the names of `Offloads` in worker.proto."""

    stored_bytes: int = 0  # from the paged cache to host memory
    loaded_bytes: int = 0  # and back
    loads: int = 0
    store_seconds: float = 0.0
    load_seconds: float = 0.0
    written_bytes: int = 0  # from host memory to the folder
    read_bytes: int = 0  # and back
    stores_skipped: int = 0  # there was no room in host memory
    folder_failures: int = 0

    def plus(self, metrics: Mapping[str, Series]) -> Offloads:
        """With what vLLM has counted since the last time, by its names of metrics."""
        return Offloads(
            self.stored_bytes + int(total(metrics, "store_bytes")),
            self.loaded_bytes + int(total(metrics, "load_bytes")),
            self.loads + sum(len(seen) for seen in series(metrics, "load_size")),
            self.store_seconds + total(metrics, "store_time"),
            self.load_seconds + total(metrics, "load_time"),
            self.written_bytes + int(total(metrics, "tiering_write_bytes")),
            self.read_bytes + int(total(metrics, "tiering_read_bytes")),
            self.stores_skipped + int(total(metrics, "allocation_failure")),
            self.folder_failures
            + int(total(metrics, "tiering_promotion_job_failures"))
            + int(total(metrics, "tiering_cascade_job_failures")),
        )


def total(metrics: Mapping[str, Series], name: str) -> float:
    return float(sum(series(metrics, name)))


def series(metrics: Mapping[str, Series], name: str) -> Iterable[Any]:
    return metrics.get(f"vllm:kv_offload_{name}", {}).values()
