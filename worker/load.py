"""How busy a worker is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from kvtransfer.stats import Transfers
from proto import worker_pb2


@dataclass(frozen=True, slots=True)
class Load:
    """One reading: what the scheduler has, and what all ranks together have moved."""

    num_running: int = 0
    num_waiting: int = 0
    num_kv_blocks: int = 0
    num_kv_blocks_used: int = 0
    transfers: Transfers = field(default_factory=Transfers)

    def to_proto(self) -> worker_pb2.LoadReport:
        moved = self.transfers
        return worker_pb2.LoadReport(
            num_running=self.num_running,
            num_waiting=self.num_waiting,
            num_kv_blocks=self.num_kv_blocks,
            num_kv_blocks_used=self.num_kv_blocks_used,
            transfers=worker_pb2.Transfers(**asdict(moved)),
        )
