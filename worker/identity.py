"""Who a worker is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """As tickets name it. The fingerprints are those of the KV that it makes."""

    worker_id: str
    incarnation: str
    model_fingerprint: str
    layout_fingerprint: str

    @property
    def key(self) -> str:
        """ "worker_id/incarnation"."""
        return f"{self.worker_id}/{self.incarnation}"
