from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.mover_config import MoverConfig
from kvtransfer.seal import Seal
from kvtransfer.transport import Transport
from kvtransfer.ucx import UcxTransport
from proto.layout import KvLayout
from tests.kvtransfer.builders import LAYOUT, SEAL
from tests.kvtransfer.engine import Worker


@dataclass
class Fleet:
    """Starts workers that reach each other, and stops them when the test ends."""

    new_transport: Callable[[], Transport]
    stack: ExitStack = field(default_factory=ExitStack)

    def worker(
        self,
        config: MoverConfig | None = None,
        layout: KvLayout = LAYOUT,
        num_blocks: int = 256,
        transport: Transport | None = None,
        rank: int = 0,
        seal: Seal = SEAL,
    ) -> Worker:
        worker = Worker(transport or self.new_transport(), config, layout, num_blocks, rank, seal)
        return self.stack.enter_context(worker)

    def ranks(self, layout: KvLayout, config: MoverConfig | None = None) -> list[Worker]:
        """All of one engine."""
        return [self.worker(config, layout, rank=rank) for rank in range(layout.num_ranks)]


@pytest.fixture(params=["inprocess", "ucx"])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Over each transport."""
    new = InProcessNetwork().transport if request.param == "inprocess" else UcxTransport
    fleet = Fleet(new)
    with fleet.stack:
        yield fleet


@pytest.fixture
def simulated_fleet() -> Iterator[Fleet]:
    """Over the in-process transport, for what does not depend on it."""
    fleet = Fleet(InProcessNetwork().transport)
    with fleet.stack:
        yield fleet
