"""How busy a worker is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet.member_load import MemberLoad
from kvtransfer.offload_stats import Offloads
from kvtransfer.stats import Transfers
from proto import worker_pb2
from worker.work import Work

OFFLOAD = "OffloadConnector"


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
    offloads: Offloads = field(default_factory=Offloads)
    work: Work = field(default_factory=Work)
    held: Mapping[bytes, int] | None = field(default=None, compare=False, repr=False)

    def to_fleet(self) -> MemberLoad:
        """What those who have no session here can read of it."""
        return MemberLoad(
            self.num_running, self.num_waiting, self.num_kv_blocks, self.num_kv_blocks_used
        )

    def to_proto(self) -> worker_pb2.LoadReport:
        moved = self.transfers
        return worker_pb2.LoadReport(
            num_running=self.num_running,
            num_waiting=self.num_waiting,
            num_kv_blocks=self.num_kv_blocks,
            num_kv_blocks_used=self.num_kv_blocks_used,
            transfers=worker_pb2.Transfers(**asdict(moved)),
            offloads=worker_pb2.Offloads(**asdict(self.offloads)),
            work=worker_pb2.Work(**asdict(self.work)),
        )


def by_connector(
    stats: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """What the connector of hand-offs has counted, and what the offloading one has.

    vLLM keeps several apart by the names of their classes, and one alone has no name.
    """
    named = {name: each for name, each in (stats or {}).items() if name.endswith("Connector")}
    if not named:
        return stats or None, None
    offloads = named.pop(OFFLOAD, None)
    return next(iter(named.values()), None), offloads


def held_by_ranks(ranks: Iterable[Mapping[bytes, int]]) -> dict[bytes, int]:
    """Bytes by ticket id, summed."""
    totals: Counter[bytes] = Counter()
    for rank in ranks:
        totals.update(rank)
    return dict(totals)
