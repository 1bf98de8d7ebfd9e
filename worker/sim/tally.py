"""What a simulated worker has moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kvtransfer.causes import Cause
from kvtransfer.stats import Transfers
from worker.sim.port import Port


@dataclass(slots=True)
class Tally:
    """Totals, as `Transfers` has them."""

    sends_completed: int = 0
    loads_completed: int = 0
    load_seconds: float = 0.0
    exposed_seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def sent(self, exposed_seconds: float) -> None:
        self.sends_completed += 1
        self.exposed_seconds += exposed_seconds

    def loaded(self, seconds: float) -> None:
        self.loads_completed += 1
        self.load_seconds += seconds

    def failed(self, direction: str, cause: Cause) -> None:
        """`direction`: "send" or "load"."""
        self.failures[f"{direction}_{cause}"] += 1

    def num_failed(self, direction: str) -> int:
        return sum(n for name, n in self.failures.items() if name.startswith(direction))

    def transfers(
        self, port: Port, num_sends: int, num_loads: int, held_bytes: int, awaited_bytes: int
    ) -> Transfers:
        return Transfers(
            open_sends=num_sends,
            open_loads=num_loads,
            held_bytes=held_bytes,
            awaited_bytes=awaited_bytes,
            sent_bytes=port.sent_bytes,
            received_bytes=port.received_bytes,
            sent_segments=port.sent_segments,
            received_segments=port.received_segments,
            sends_completed=self.sends_completed,
            sends_failed=self.num_failed("send"),
            loads_completed=self.loads_completed,
            loads_failed=self.num_failed("load"),
            late_segments=port.num_late,
            load_seconds=self.load_seconds,
            exposed_seconds=self.exposed_seconds,
            failures=dict(self.failures),
        )
