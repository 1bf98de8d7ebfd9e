"""An engine rank's paged KV cache, as the transfer thread sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvtransfer.layout import KvLayout
from kvtransfer.staging import Slot


class PagedCache(Protocol):
    """Copies blocks of a layer into a staging buffer and back; the format is Segment's payload."""

    @property
    def layout(self) -> KvLayout: ...

    def pack(self, layer: int, block_ids: Sequence[int], out: Slot) -> None:
        """The blocks, in this order, into `out` of exactly their size."""

    def unpack(self, layer: int, block_ids: Sequence[int], data: Slot) -> None:
        """The reverse. When it returns, the engine may read the blocks."""
