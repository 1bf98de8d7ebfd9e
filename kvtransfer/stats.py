"""What one engine rank has moved. The names are those of `Transfers` in worker.proto."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transfers:
    """Gauges first, then totals since the start. Bytes are KV payload, without headers."""

    open_sends: int = 0
    open_loads: int = 0
    staging_bytes: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    sends_completed: int = 0
    sends_failed: int = 0
    loads_completed: int = 0
    loads_failed: int = 0
    late_segments: int = 0
    load_seconds: float = 0.0
    exposed_seconds: float = 0.0
