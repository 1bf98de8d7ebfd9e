"""How busy a worker is, as it tells the fleet."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class MemberLoad:
    """One reading. `num_waiting_tokens`: of prompts that nobody computes yet; None if unknown."""

    num_running: int = 0
    num_waiting: int = 0
    num_kv_blocks: int = 0
    num_kv_blocks_used: int = 0
    num_waiting_tokens: int | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, record: bytes | str) -> MemberLoad:
        """Raises ValueError if the record is no load."""
        return msgspec.json.decode(record, type=cls)
