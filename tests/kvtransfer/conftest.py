from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.layout import KvLayout
from kvtransfer.mover import MoverConfig
from kvtransfer.transport import Transport
from kvtransfer.ucx import UcxTransport
from tests.kvtransfer.builders import LAYOUT
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
    ) -> Worker:
        worker = Worker(transport or self.new_transport(), config, layout, num_blocks)
        return self.stack.enter_context(worker)


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
