"""Which peers answer: pure, told of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Peer:
    heard_at: float
    asked_at: float


class Liveness:
    """Peers that something is expected of are asked each `interval_seconds`; one that has said
    nothing for `silence_seconds` is silent.

    After a pause of this process itself (longer than two intervals between two calls of
    `watch`) everybody is given time again.
    """

    def __init__(self, interval_seconds: float, silence_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._silence_seconds = silence_seconds
        self._peers: dict[bytes, _Peer] = {}
        self._watched_at = 0.0

    def watch(self, addresses: set[bytes], now: float) -> None:
        """From now on exactly these are of interest; call it often while there are any."""
        has_paused = now - self._watched_at > 2 * self._interval_seconds
        self._watched_at = now
        for address in self._peers.keys() - addresses:
            del self._peers[address]
        for address in addresses - self._peers.keys():
            self._peers[address] = _Peer(now, now)
        if has_paused:
            for peer in self._peers.values():
                peer.heard_at = now

    def heard(self, address: bytes, now: float) -> None:
        if peer := self._peers.get(address):
            peer.heard_at = now

    def forget(self, address: bytes) -> None:
        """What it has said or not does not count for what is expected of it from now on."""
        self._peers.pop(address, None)

    def take_due(self, now: float) -> list[bytes]:
        """Whom to ask now."""
        due = [
            address
            for address, peer in self._peers.items()
            if now - peer.asked_at >= self._interval_seconds
        ]
        for address in due:
            self._peers[address].asked_at = now
        return due

    def silent(self, now: float) -> list[bytes]:
        late = now - self._silence_seconds
        return [address for address, peer in self._peers.items() if peer.heard_at <= late]

    def __repr__(self) -> str:
        return f"<Liveness: {len(self._peers)} watched>"
