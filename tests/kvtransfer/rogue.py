from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kvtransfer import messages
from kvtransfer.messages import Message
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.transport import Kind, Operation, Transport
from tests.kvtransfer.builders import SEAL, eventually


class Rogue:
    """A peer that sends what no worker of ours does. It may have the fleet's key all the same.

    What it has sent makes way while it waits.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.operations: list[Operation] = []

    def send(self, address: bytes, kind: Kind, data: bytes) -> None:
        link = self.transport.connect(address)
        self.operations.append(link.send(kind, np.frombuffer(data, np.uint8).copy()))

    def tell(self, address: bytes, message: Message) -> None:
        """Under the fleet's seal."""
        self.send(address, Kind.CONTROL, SEAL.close(messages.encode(message)))

    def send_segment(self, address: bytes, segment: Segment, seed: int | None = None) -> None:
        """Full of ones, and intact for those who know the fleet's seeds."""
        message = np.ones(HEADER_BYTES + segment.payload_bytes, np.uint8)
        segment.seal(message, SEAL.seed(segment.ticket) if seed is None else seed)
        self.send(address, Kind.SEGMENT, message.tobytes())

    def wait_until(self, holds: Callable[[], bool]) -> None:
        def poll_and_see() -> bool:
            self.transport.poll(0)
            return holds()

        eventually(poll_and_see)

    def receive(self) -> bytes:
        """The next control message that comes to its own inbox."""
        found: list[bytes] = []

        def take() -> bool:
            if arrival := self.transport.probe(Kind.CONTROL):
                buffer = np.zeros(arrival.num_bytes, np.uint8)
                operation = arrival.receive(buffer)
                self.wait_until(lambda: operation.is_done)
                found.append(buffer.tobytes())
            return bool(found)

        self.wait_until(take)
        return found[0]

    def receive_demand(self) -> messages.Demand:
        """As a prefill worker would; whatever else comes is skipped."""
        while True:
            message = messages.decode(SEAL.open(self.receive()))
            if isinstance(message, messages.Demand):
                return message
