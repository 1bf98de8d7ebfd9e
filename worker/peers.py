"""The prefill workers that gateways have introduced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

from fleet.member import check_name
from proto import worker_pb2
from proto.layout import KvLayout, obstacle
from proto.ticket import MAX_ADDRESS_BYTES, MAX_ADDRESSES
from worker.errors import ProtocolBroken

MAX_PEERS = 4096


@dataclass(frozen=True, slots=True)
class Peer:
    """`key` is "worker_id/incarnation"; `obstacle` says why its KV is of no use here."""

    key: str
    addresses: tuple[bytes, ...]
    layout_fingerprint: str
    obstacle: str | None = None

    @classmethod
    def introduced(cls, message: worker_pb2.Introduce, ours: KvLayout) -> Peer:
        """Raises ProtocolBroken."""
        addresses = tuple(message.transfer_addresses)
        if not 0 < len(addresses) <= MAX_ADDRESSES:
            raise ProtocolBroken(f"a peer has 1 to {MAX_ADDRESSES} addresses")
        if not all(0 < len(address) <= MAX_ADDRESS_BYTES for address in addresses):
            raise ProtocolBroken(f"a peer's address has 1 to {MAX_ADDRESS_BYTES} bytes")
        try:
            check_name("a peer's name", message.worker_id)
            check_name("a peer's incarnation", message.incarnation)
            theirs = KvLayout.from_proto(message.kv_layout)
        except ValueError as error:
            raise ProtocolBroken(f"this is no peer: {error}") from error
        key = f"{message.worker_id}/{message.incarnation}"
        return cls(key, addresses, theirs.fingerprint, obstacle(theirs, ours))


class PeerBook:
    """Who was introduced in which session. Pure and synchronous."""

    def __init__(self) -> None:
        self._sessions: dict[int, dict[str, Peer]] = {}
        self._num_sessions: Counter[Peer] = Counter()

    @property
    def peers(self) -> Set[Peer]:
        """Of all sessions."""
        return self._num_sessions.keys()

    def find(self, session: int, key: str) -> Peer | None:
        return self._sessions.get(session, {}).get(key)

    def introduce(self, session: int, peer: Peer) -> None:
        """Takes the place of what was known under that key. Raises ProtocolBroken."""
        known = self._sessions.setdefault(session, {})
        self.part(session, peer.key)
        if len(known) >= MAX_PEERS:
            raise ProtocolBroken(f"a session has at most {MAX_PEERS} peers")
        known[peer.key] = peer
        self._num_sessions[peer] += 1

    def part(self, session: int, key: str) -> None:
        """Nothing happens if it was not introduced."""
        if peer := self._sessions.get(session, {}).pop(key, None):
            self._forget(peer)

    def close_session(self, session: int) -> None:
        for peer in self._sessions.pop(session, {}).values():
            self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        self._num_sessions[peer] -= 1
        if not self._num_sessions[peer]:
            del self._num_sessions[peer]

    def check_integrity(self) -> None:
        """Raises AssertionError if the counts are not those of the sessions."""
        counted = Counter(peer for known in self._sessions.values() for peer in known.values())
        assert counted == self._num_sessions, self

    def __repr__(self) -> str:
        return f"<PeerBook: {len(self._num_sessions)} peers, {len(self._sessions)} sessions>"
