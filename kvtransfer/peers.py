"""The other ends of the links, while something is expected of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from kvtransfer.causes import Cause
from kvtransfer.ledgers import Ledgers
from kvtransfer.links import Links
from kvtransfer.liveness import Liveness
from kvtransfer.mover_config import MoverConfig
from kvtransfer.transport import Link

LOOKS_PER_PING = 4


class Traffic(Protocol):
    """What has messages under way; see `Flights`."""

    def take_live_links(self) -> set[Link]: ...

    def take_bad_links(self, before: float) -> set[Link]: ...


class Peers:
    """Sources of open loads are asked whether they are there; receivers of open sends ask by
    themselves. Both are lost when they fall silent.
    """

    def __init__(self, links: Links, ledgers: Ledgers, config: MoverConfig) -> None:
        self._links = links
        self._ledgers = ledgers
        self._config = config
        self._sources = Liveness(config.ping_seconds, config.stall_seconds)
        self._receivers = Liveness(config.ping_seconds, config.stall_seconds)
        self.look_seconds = config.ping_seconds / LOOKS_PER_PING
        self._next_look = 0.0
        self._looked_at = 0.0
        self._patient_until = 0.0

    def heard_from(self, address: bytes, now: float) -> None:
        self._sources.heard(address, now)
        self._receivers.heard(address, now)

    def heard_on(self, link: Link | None, now: float) -> None:
        if link and (address := self._links.address_of(link)):
            self.heard_from(address, now)

    def forget(self, address: bytes) -> None:
        """All that was expected of it is ended: what comes next has its whole time."""
        self._sources.forget(address)
        self._receivers.forget(address)

    def lost(self, now: float, traffic: Iterable[Traffic]) -> Iterator[tuple[bytes, Cause]]:
        """Who is gone, and how that shows. Liveness is looked at each `look_seconds` only."""
        yield from self._lost_on_the_way(now, traffic)
        for address in self._links.take_evicted():
            yield address, Cause.LINK_LOST
        if now < self._next_look:
            return
        self._next_look = now + self.look_seconds
        with self._ledgers.lock:
            sources = self._ledgers.loads.source_addresses()
            receivers = self._ledgers.sends.reply_addresses()
        self._sources.watch(sources, now)
        self._receivers.watch(receivers, now)
        for address in self._links.broken():
            yield address, Cause.LINK_LOST
        for address in [*self._sources.silent(now), *self._receivers.silent(now)]:
            yield address, Cause.PEER_SILENT

    def take_due(self, now: float) -> list[bytes]:
        """Whom to ask now."""
        return self._sources.take_due(now)

    def _lost_on_the_way(
        self, now: float, traffic: Iterable[Traffic]
    ) -> Iterator[tuple[bytes, Cause]]:
        stalled_since = self._stalled_since(now)
        for part in traffic:
            for link in part.take_live_links():
                self.heard_on(link, now)
            for link in part.take_bad_links(stalled_since):
                if address := self._links.address_of(link):
                    yield address, Cause.LINK_LOST

    def _stalled_since(self, now: float) -> float:
        """What has started before then and makes no way is the peer's fault: not if this process
        itself has stood still.
        """
        if now - self._looked_at > 2 * self._config.ping_seconds:
            self._patient_until = now + self._config.stall_seconds
        self._looked_at = now
        return now - self._config.stall_seconds if now >= self._patient_until else 0.0
