from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from proto import worker_pb2
from tests.proto.builders import KEY
from tests.worker.builders import make_hub
from tests.worker.scripted_engine import ScriptedEngine
from worker.errors import PortTaken
from worker.server import check_port, open_server
from worker.servicer import Servicer


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_free_port_is_fine_and_stays_free() -> None:
    check_port("127.0.0.1", 0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_taken_port_is_named_before_anything_is_loaded(taken_port: int) -> None:
    with pytest.raises(PortTaken, match=f"127.0.0.1:{taken_port}: Address already in use"):
        check_port("127.0.0.1", taken_port)


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1:0: Cannot assign"):
        check_port("192.0.2.1", 0)


async def test_two_workers_never_share_a_port() -> None:
    hub, _ = make_hub(ScriptedEngine())
    servicer = Servicer(worker_pb2.Description(), hub, KEY)
    async with open_server(servicer, "127.0.0.1", 0) as port:
        with pytest.raises(PortTaken):
            async with open_server(servicer, "127.0.0.1", port):
                pytest.fail("both listen")
