from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kvtransfer import messages
from kvtransfer.transport import Kind, Operation, Transport
from tests.kvtransfer.builders import eventually


class Rogue:
    """A peer that is not of ours. What it has sent makes way while it waits."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.operations: list[Operation] = []

    def send(self, address: bytes, kind: Kind, data: bytes) -> None:
        link = self.transport.connect(address)
        self.operations.append(link.send(kind, np.frombuffer(data, np.uint8).copy()))

    def wait_until(self, holds: Callable[[], bool]) -> None:
        def poll_and_see() -> bool:
            self.transport.poll(0)
            return holds()

        eventually(poll_and_see)

    def receive_demand(self) -> messages.Demand:
        """As a prefill worker would."""
        found: list[bytes] = []

        def take() -> bool:
            if arrival := self.transport.probe(Kind.CONTROL):
                buffer = np.zeros(arrival.num_bytes, np.uint8)
                operation = arrival.receive(buffer)
                self.wait_until(lambda: operation.is_done)
                found.append(buffer.tobytes())
            return bool(found)

        self.wait_until(take)
        demand = messages.decode(found[0])
        assert isinstance(demand, messages.Demand)
        return demand
