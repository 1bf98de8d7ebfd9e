"""How busy a worker is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from kvtransfer.stats import Transfers
from proto import worker_pb2


@dataclass(frozen=True, slots=True)
class Load:
    """One reading: what the scheduler has, and what all ranks together have moved.

    `held`: bytes of KV that they hold or wait for, by ticket id; None if they were not asked.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_kv_blocks: int = 0
    num_kv_blocks_used: int = 0
    transfers: Transfers = field(default_factory=Transfers)
    held: Mapping[bytes, int] | None = field(default=None, compare=False, repr=False)

    def to_proto(self) -> worker_pb2.LoadReport:
        moved = self.transfers
        return worker_pb2.LoadReport(
            num_running=self.num_running,
            num_waiting=self.num_waiting,
            num_kv_blocks=self.num_kv_blocks,
            num_kv_blocks_used=self.num_kv_blocks_used,
            transfers=worker_pb2.Transfers(**asdict(moved)),
        )


def held_by_ranks(ranks: Iterable[Mapping[bytes, int]]) -> dict[bytes, int]:
    """Bytes by ticket id, summed."""
    totals: Counter[bytes] = Counter()
    for rank in ranks:
        totals.update(rank)
    return dict(totals)
