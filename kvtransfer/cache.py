"""An engine rank's paged KV cache, as the transfer thread sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvtransfer.layout import KvLayout
from kvtransfer.staging import Slot


class PagedCache(Protocol):
    """Copies tokens between blocks and a staging buffer; the format is Segment's payload."""

    @property
    def layout(self) -> KvLayout: ...

    def pack(self, layer: int, block_ids: Sequence[int], num_tokens: int, out: Slot) -> None:
        """The first `num_tokens` of `block_ids`, into `out` of exactly their size."""

    def unpack(self, layer: int, block_ids: Sequence[int], num_tokens: int, data: Slot) -> None:
        """`data` into the first `num_tokens` of `block_ids`."""
