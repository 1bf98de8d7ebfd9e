"""An engine rank's paged KV cache, as the transfer thread sees it."""

from __future__ import annotations

from typing import Protocol

from kvtransfer.cut import Cut
from kvtransfer.incoming import Place
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from proto.layout import KvLayout


class PagedCache(Protocol):
    """Copies blocks of a layer into a staging buffer and back; the format is Segment's payload.

    `mark_computed` is called by the engine's thread, everything else by the transfer thread.
    """

    @property
    def layout(self) -> KvLayout:
        """Of the whole engine."""

    @property
    def rank(self) -> int:
        """Whose share this is."""

    def mark_computed(self, layer: int) -> None:
        """The engine has enqueued the work that writes `layer`, counted within this cache;
        `pack` waits for it.
        """

    def pack(self, cut: Cut, out: Slot) -> None:
        """What `cut` says, in the target's layout, into `out` of exactly that size."""

    def unpack(self, place: Place, wire: WireFormat, data: Slot) -> None:
        """The reverse, in this cache's own layout. When it returns, the engine may read it."""
