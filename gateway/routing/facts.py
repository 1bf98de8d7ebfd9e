"""What a worker is, once it has described itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.compatibility import NIXL
from proto import worker_pb2
from proto.layout import KvLayout


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """`key` is "worker_id/incarnation"; `kv_tokens`: what its KV cache has room for;
    `step_tokens`: what one step computes at most; beside running answers, it computes of prompts
    what `itl_goal_seconds` leaves time for, if that is not 0.
    """

    key: str
    layout: KvLayout = field(repr=False)
    worker_id: str = ""
    incarnation: str = ""
    model_fingerprint: str = ""
    transfer_addresses: tuple[bytes, ...] = field(default=(), repr=False)
    kv_connector: str = ""
    can_prefill: bool = False
    can_decode: bool = False
    kv_tokens: int = 0
    step_tokens: int = 0
    itl_goal_seconds: float = 0.0

    @classmethod
    def of(cls, described: worker_pb2.Description, layout: KvLayout) -> WorkerFacts:
        capacity = described.capacity
        return cls(
            key=f"{described.worker_id}/{described.incarnation}",
            layout=layout,
            worker_id=described.worker_id,
            incarnation=described.incarnation,
            model_fingerprint=described.model_fingerprint,
            transfer_addresses=tuple(described.transfer_addresses),
            kv_connector=described.kv_connector,
            can_prefill=worker_pb2.ROLE_PREFILL in described.roles,
            can_decode=worker_pb2.ROLE_DECODE in described.roles,
            # vLLM keeps one block for itself.
            kv_tokens=max(0, capacity.num_kv_blocks - 1) * layout.block_size,
            step_tokens=capacity.max_num_batched_tokens,
            itl_goal_seconds=capacity.itl_goal_seconds,
        )

    @property
    def is_pulled_from(self) -> bool:
        """Its KV is fetched when all of it is there."""
        return self.kv_connector == NIXL
