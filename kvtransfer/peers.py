"""The other ends of the links, while something is expected of them."""

from __future__ import annotations

from collections.abc import Iterator

from kvtransfer.causes import Cause
from kvtransfer.links import Links
from kvtransfer.liveness import Liveness
from kvtransfer.loads import LoadLedger
from kvtransfer.mover_config import MoverConfig
from kvtransfer.sends import SendLedger
from kvtransfer.transport import Link

LOOKS_PER_PING = 4


class Peers:
    """Sources of open loads are asked whether they are there; receivers of open sends ask by
    themselves. Both are lost when they fall silent.
    """

    def __init__(
        self, links: Links, sends: SendLedger, loads: LoadLedger, config: MoverConfig
    ) -> None:
        self._links = links
        self._sends = sends
        self._loads = loads
        self._sources = Liveness(config.ping_seconds, config.stall_seconds)
        self._receivers = Liveness(config.ping_seconds, config.stall_seconds)
        self.look_seconds = config.ping_seconds / LOOKS_PER_PING
        self._next_look = 0.0

    def heard_from(self, address: bytes, now: float) -> None:
        self._sources.heard(address, now)
        self._receivers.heard(address, now)

    def heard_on(self, link: Link | None, now: float) -> None:
        if link and (address := self._links.address_of(link)):
            self.heard_from(address, now)

    def lost(self, now: float) -> Iterator[tuple[bytes, Cause]]:
        """Who is gone, and how that shows. Looks only each `look_seconds`."""
        for address in self._links.take_evicted():
            yield address, Cause.LINK_LOST
        if now < self._next_look:
            return
        self._next_look = now + self.look_seconds
        self._sources.watch(self._loads.source_addresses(), now)
        self._receivers.watch(self._sends.reply_addresses(), now)
        for address in self._links.broken():
            yield address, Cause.LINK_LOST
        for address in [*self._sources.silent(now), *self._receivers.silent(now)]:
            yield address, Cause.PEER_SILENT

    def take_due(self, now: float) -> list[bytes]:
        """Whom to ask now."""
        return self._sources.take_due(now)
