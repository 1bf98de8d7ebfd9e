"""The connections of one transport, made when first needed."""

from __future__ import annotations

import logging

from kvtransfer.errors import TransportUnavailable
from kvtransfer.transport import Peer, Transport, sender_id

logger = logging.getLogger("vllm.baton.peers")


class Peers:
    """One `Peer` per address. An address that cannot be reached is tried again next time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._peers: dict[bytes, Peer] = {}

    def get(self, address: bytes) -> Peer | None:
        """None if there is no way to `address`; the reason is logged."""
        if address not in self._peers:
            try:
                self._peers[address] = self._transport.connect(address)
            except TransportUnavailable as error:
                logger.warning("%s", error)
        return self._peers.get(address)

    def drop(self, sender: int) -> None:
        """Closes the connection to the transport with this `sender_id`, if there is one."""
        for address in [a for a in self._peers if sender_id(a) == sender]:
            logger.warning("a peer does not take or give its messages; closing the connection")
            self._peers.pop(address).close()

    def close(self) -> None:
        while self._peers:
            self._peers.popitem()[1].close()

    def __len__(self) -> int:
        return len(self._peers)
