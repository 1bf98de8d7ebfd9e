"""Control messages over a transport: small, both ways, never waiting."""

from __future__ import annotations

import logging
from collections import deque

import numpy as np

from kvtransfer import messages
from kvtransfer.errors import MalformedMessage
from kvtransfer.messages import MAX_CONTROL_BYTES, Message
from kvtransfer.peers import Peers
from kvtransfer.transport import Kind, Operation, Transport

logger = logging.getLogger("vllm.baton.control")

MAX_UNDER_WAY = 4096


class ControlChannel:
    """Sends and takes messages. One that cannot be sent is dropped: the leases cover it."""

    def __init__(self, transport: Transport, peers: Peers) -> None:
        self._transport = transport
        self._peers = peers
        self._sending: deque[Operation] = deque()
        self._receiving: deque[tuple[Operation, bytearray]] = deque()
        self.num_dropped = 0

    @property
    def num_under_way(self) -> int:
        return len(self._sending) + len(self._receiving)

    def tell(self, address: bytes, message: Message) -> None:
        peer = self._peers.get(address)
        if peer is None or len(self._sending) >= MAX_UNDER_WAY:
            self.num_dropped += 1
            return
        data = np.frombuffer(messages.encode(message), np.uint8)
        self._sending.append(peer.send(Kind.CONTROL, data))

    def take(self) -> list[Message]:
        """The messages that have come, in order; malformed ones are logged and skipped."""
        while self._sending and self._sending[0].is_done:
            self._sending.popleft()
        while arrival := self._transport.probe(Kind.CONTROL):
            data = bytearray(min(arrival.num_bytes, MAX_CONTROL_BYTES))
            operation = arrival.receive(np.frombuffer(data, np.uint8))
            self._receiving.append((operation, data))
        taken = []
        while self._receiving and self._receiving[0][0].is_done:
            operation, data = self._receiving.popleft()
            if operation.is_ok:
                taken.extend(self._decode(data))
        return taken

    def _decode(self, data: bytearray) -> list[Message]:
        try:
            return [messages.decode(bytes(data))]
        except MalformedMessage as error:
            logger.warning("%s", error)
            return []
