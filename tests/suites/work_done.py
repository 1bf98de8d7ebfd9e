"""What the engines of a fleet have computed, by their workers' own count."""

from __future__ import annotations

import msgspec

from tests.suites.gateway import Gateway
from tests.system.exchange import client
from tests.system.waiting import wait_until

SETTLE_SECONDS = 20.0
REVOKED = "send_revoked"


class Work(msgspec.Struct, frozen=True):
    """As in proto/worker.proto. A prompt's chunk of one token counts as a next token."""

    prefill_tokens: int
    mixed_prefill_tokens: int
    cached_tokens: int
    preemptions: int


class Moved(msgspec.Struct, frozen=True):
    """`failures`: by send_, load_ and cause."""

    sends_failed: int
    loads_failed: int
    failures: dict[str, int]


class Load(msgspec.Struct, frozen=True):
    num_running: int
    num_waiting: int
    num_kv_blocks: int
    num_kv_blocks_used: int
    num_reserved_tokens: int
    transfers: Moved
    work: Work


class Worker(msgspec.Struct, frozen=True):
    worker_id: str
    role: str
    block_size: int | None
    load: Load


class WorkReport(msgspec.Struct, frozen=True):
    """One reading of all workers."""

    workers: tuple[Worker, ...]

    @classmethod
    def take(cls, gateway: Gateway) -> WorkReport:
        """Freshly asked of the workers."""
        with client() as http:
            answer = http.get(f"{gateway.url}/fleet/workers?fresh=1").raise_for_status()
        return msgspec.json.decode(answer.content, type=cls)

    @classmethod
    def settled(cls, gateway: Gateway) -> WorkReport:
        """When nothing runs any more, and two readings are the same."""
        seen = [cls.take(gateway)]

        def is_settled() -> bool:
            seen.append(cls.take(gateway))
            return seen[-1] == seen[-2] and not seen[-1].num_open

        wait_until(is_settled, SETTLE_SECONDS, lambda: f"not idle: {seen[-1]}")
        return seen[-1]

    @property
    def num_open(self) -> int:
        return sum(each.load.num_running + each.load.num_waiting for each in self.workers)

    @property
    def computed(self) -> dict[str, int]:
        """Prompt tokens by worker."""
        return {
            each.worker_id: each.load.work.prefill_tokens + each.load.work.mixed_prefill_tokens
            for each in self.workers
        }

    @property
    def block_size(self) -> int:
        (size,) = {each.block_size for each in self.workers if each.block_size}
        return size

    @property
    def preemptions(self) -> int:
        return sum(each.load.work.preemptions for each in self.workers)

    @property
    def loads_failed(self) -> int:
        return sum(each.load.transfers.loads_failed for each in self.workers)

    @property
    def sends_failed(self) -> int:
        return sum(each.load.transfers.sends_failed for each in self.workers)

    @property
    def sends_revoked(self) -> int:
        """Those of them that a gateway ended."""
        return sum(each.load.transfers.failures.get(REVOKED, 0) for each in self.workers)


def computed_between(before: WorkReport, after: WorkReport) -> dict[str, int]:
    """Prompt tokens by worker, of those that computed any."""
    earlier = before.computed
    found = {name: number - earlier.get(name, 0) for name, number in after.computed.items()}
    return {name: number for name, number in found.items() if number}
