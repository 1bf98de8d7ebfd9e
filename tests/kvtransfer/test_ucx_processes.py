"""Links of UCX to processes that are killed and stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kvtransfer.errors import TransportUnavailable
from kvtransfer.transport import Arrival, Kind, Link
from kvtransfer.ucx import UcxTransport
from kvtransfer.ucx_limits import files_open
from tests.kvtransfer.ucx_peer import LARGE, MOMENT_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 10.0
NUM_PEERS = 4
pytestmark = pytest.mark.parametrize(
    "host", [pytest.param("here", id="one-host"), pytest.param("there", id="two-hosts")]
)


class Peer:
    """The other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._told = process.stdin
        self.address = bytes.fromhex(process.stdout.readline())

    def send_to(self, address: bytes) -> None:
        """Has it send a large message there."""
        self._told.write(address.hex() + "\n")
        self._told.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(host: str) -> Iterator[Peer]:
    command = [sys.executable, "-m", "tests.kvtransfer.ucx_peer", host]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield Peer(process)
        process.kill()


@pytest.fixture
def here() -> Iterator[UcxTransport]:
    transport = UcxTransport(host=b"here")
    yield transport
    transport.close()


def until(transport: UcxTransport, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        transport.poll(MOMENT_SECONDS)
        assert time.monotonic() < deadline, "it did not come to pass"


def wait_until_broken(transport: UcxTransport, link: Link) -> None:
    until(transport, lambda: link.is_broken)


def first_arrival(transport: UcxTransport, link: Link) -> Arrival:
    found: list[Arrival] = []

    def probe() -> bool:
        if arrival := link.probe(Kind.SEGMENT):
            found.append(arrival)
        return bool(found)

    until(transport, probe)
    return found[0]


def meet(transport: UcxTransport, peer: Peer) -> tuple[Link, Arrival]:
    """A link that is in use both ways, and a message from the peer that waits."""
    link = transport.connect(peer.address)
    greeting = link.send(Kind.CONTROL, np.ones(LARGE, np.uint8))
    until(transport, lambda: greeting.is_done)
    peer.send_to(link.address)
    return link, first_arrival(transport, link)


def test_a_link_whose_process_is_killed_is_broken(here: UcxTransport, host: str) -> None:
    with running(host) as peer, running(host) as other:
        link, _ = meet(here, peer)
        kept, _ = meet(here, other)
        assert not link.is_broken
        peer.kill()
        wait_until_broken(here, link)
        assert not kept.is_broken


def test_its_death_ends_a_poll_that_sleeps(here: UcxTransport, host: str) -> None:
    with running(host) as peer:
        link, arrival = meet(here, peer)
        receiving = arrival.receive(np.zeros(LARGE, np.uint8))
        until(here, lambda: receiving.is_done)
        while here.poll(0):
            pass
        with ThreadPoolExecutor() as pool:
            polling = pool.submit(here.poll, 10 * PATIENCE_SECONDS)
            peer.kill()
            polling.result(PATIENCE_SECONDS)
        wait_until_broken(here, link)


def test_a_link_to_a_stopped_process_is_not_broken_until_it_dies(
    here: UcxTransport, host: str
) -> None:
    with running(host) as peer:
        link, _ = meet(here, peer)
        peer.process.send_signal(signal.SIGSTOP)
        sending = link.send(Kind.SEGMENT, np.ones(LARGE, np.uint8))
        for _ in range(100):
            here.poll(MOMENT_SECONDS)
        assert (link.is_broken, sending.is_done) == (False, False)
        peer.kill()
        wait_until_broken(here, link)
        link.close()
        assert sending.is_done


def test_a_stopped_process_that_goes_on_takes_what_was_sent(here: UcxTransport, host: str) -> None:
    with running(host) as peer:
        link, _ = meet(here, peer)
        peer.process.send_signal(signal.SIGSTOP)
        sending = link.send(Kind.SEGMENT, np.ones(LARGE, np.uint8))
        for _ in range(100):
            here.poll(MOMENT_SECONDS)
        peer.process.send_signal(signal.SIGCONT)
        until(here, lambda: sending.is_done)
        assert sending.is_ok
        assert not link.is_broken


def test_there_is_no_way_to_a_process_that_has_gone(here: UcxTransport, host: str) -> None:
    with running(host) as peer:
        peer.kill()
        with pytest.raises(TransportUnavailable):
            here.connect(peer.address)


def num_segments() -> int:
    """Of shared memory."""
    return Path("/proc/self/maps").read_text().count("/SYSV")


@pytest.mark.parametrize("is_taken", [False, True], ids=["waiting", "under-way"])
def test_links_to_killed_processes_leave_nothing(
    here: UcxTransport, host: str, is_taken: bool
) -> None:
    files, segments = files_open(), num_segments()
    for _ in range(NUM_PEERS):
        with running(host) as peer:
            link, arrival = meet(here, peer)
            link.send(Kind.SEGMENT, np.ones(LARGE, np.uint8))
            if is_taken:
                arrival.receive(np.zeros(LARGE, np.uint8))
                here.poll(0)
            peer.kill()
            wait_until_broken(here, link)
            link.close()
    while here.poll(MOMENT_SECONDS):
        pass
    del arrival
    assert files_open() <= files
    assert num_segments() <= segments
