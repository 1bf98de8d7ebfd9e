"""An engine rank's paged KV cache, as the transfer thread sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvtransfer.layout import KvLayout
from kvtransfer.staging import Slot


class PagedCache(Protocol):
    """Copies blocks of a layer into a staging buffer and back; the format is Segment's payload.

    `mark_computed` is called by the engine's thread, everything else by the transfer thread.
    """

    @property
    def layout(self) -> KvLayout: ...

    def mark_computed(self, layer: int) -> None:
        """The engine has enqueued the work that writes `layer`; `pack` waits for it."""

    def pack(self, layer: int, block_ids: Sequence[int], out: Slot) -> None:
        """The blocks, in this order, into `out` of exactly their size."""

    def unpack(self, layer: int, block_ids: Sequence[int], data: Slot) -> None:
        """The reverse. When it returns, the engine may read the blocks."""
