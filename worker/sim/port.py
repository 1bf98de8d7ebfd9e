"""A simulated worker's connection to the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Port:
    """`bandwidth`: bytes a second, each way. Busy until `out_free_at` and `in_free_at`."""

    bandwidth: float
    out_free_at: float = 0.0
    in_free_at: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    sent_segments: int = 0
    received_segments: int = 0
    num_late: int = 0

    def count_out(self, num_bytes: int) -> None:
        self.sent_bytes += num_bytes
        self.sent_segments += 1

    def count_in(self, num_bytes: int) -> None:
        self.received_bytes += num_bytes
        self.received_segments += 1
