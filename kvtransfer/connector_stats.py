"""What an engine rank has moved, on its way through vLLM."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats

from kvtransfer.stats import total


class BatonStats(KVConnectorStats):
    """`Transfers` in the form that vLLM carries from an engine rank to its client."""

    data: dict[str, Any]

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """The sum over ranks."""
        self.data = asdict(total([self.data, other.data]))
        return self

    def reduce(self) -> dict[str, int | float]:
        return dict(self.data)

    def is_empty(self) -> bool:
        return not self.data
