"""What `Transport` promises, over every implementation: two ends in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest

from kvtransfer.errors import TransportUnavailable
from kvtransfer.faults import CorruptingTransport
from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.staging import Slot
from kvtransfer.transport import Arrival, Inbox, Kind, Link, Operation, Transport
from kvtransfer.ucx import UcxTransport

PATIENCE_SECONDS = 10.0
LARGE = 4 << 20
SIZES = [1, 64, 1000, 8192, 100_000, LARGE]


@dataclass
class Ends:
    """Two transports, polled in turn. Each process knows of its own transports' ends, except
    that UCX inside a host learns only of a process's.
    """

    new: Callable[[], Transport]
    here: Transport
    there: Transport
    learns_of_closing: bool
    operations: list[Operation] = field(default_factory=list)

    def send(self, link: Link, kind: Kind, data: Slot) -> Operation:
        """And keeps it, as its caller has to."""
        self.operations.append(link.send(kind, data))
        return self.operations[-1]

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self.here.poll(0)
            self.there.poll(0)
            assert time.monotonic() < deadline, "it did not come to pass"

    def link(self) -> Link:
        return self.here.connect(self.there.address)

    def arrival(self, inbox: Inbox, kind: Kind) -> Arrival:
        """The next one."""
        found: list[Arrival] = []

        def probe() -> bool:
            if arrival := inbox.probe(kind):
                found.append(arrival)
            return bool(found)

        self.until(probe)
        return found[0]

    def receive(self, inbox: Inbox, kind: Kind) -> Slot:
        arrival = self.arrival(inbox, kind)
        buffer = np.zeros(arrival.num_bytes, np.uint8)
        operation = arrival.receive(buffer)
        self.until(lambda: operation.is_done)
        assert operation.is_ok
        return buffer

    def turns(self, number: int) -> None:
        """Progress for whatever can make any."""
        rounds = count()
        self.until(lambda: next(rounds) == number)


def new_corrupting() -> Callable[[], Transport]:
    network = InProcessNetwork()
    return lambda: CorruptingTransport(network.transport())


def new_on_hosts_of_their_own() -> Callable[[], Transport]:
    numbers = count()
    return lambda: UcxTransport(host=b"host-%d" % next(numbers))


@pytest.fixture(params=["inprocess", "ucx", "ucx-between-hosts", "corrupting"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    kinds: dict[str, Callable[[], Callable[[], Transport]]] = {
        "inprocess": lambda: InProcessNetwork().transport,
        "ucx": lambda: UcxTransport,
        "ucx-between-hosts": new_on_hosts_of_their_own,
        "corrupting": new_corrupting,
    }
    new = kinds[request.param]()
    ends = Ends(new, new(), new(), learns_of_closing=request.param != "ucx")
    yield ends
    ends.here.close()
    ends.there.close()


def message(num_bytes: int, seed: int = 0) -> Slot:
    return np.random.default_rng(seed).integers(0, 256, num_bytes, np.uint8)


def state(operation: Operation) -> tuple[bool, bool]:
    return operation.is_done, operation.is_ok


ENDED_WELL, ENDED_BADLY, UNDER_WAY = (True, True), (True, False), (False, False)


def test_every_inbox_has_an_address_of_its_own(ends: Ends) -> None:
    addresses = [inbox.address for inbox in (ends.here, ends.there, ends.link(), ends.link())]
    assert len(set(addresses)) == 4
    assert all(0 < len(address) <= 4096 for address in addresses)
    assert ends.here.address == ends.here.address


@pytest.mark.parametrize("num_bytes", SIZES)
def test_a_message_arrives_as_it_was_sent(ends: Ends, num_bytes: int) -> None:
    link, sent = ends.link(), message(num_bytes)
    operation = ends.send(link, Kind.CONTROL, sent)
    np.testing.assert_array_equal(ends.receive(ends.there, Kind.CONTROL), sent)
    ends.until(lambda: operation.is_done)
    assert operation.is_ok


def test_an_empty_message_arrives(ends: Ends) -> None:
    link = ends.link()
    ends.send(link, Kind.CONTROL, message(0))
    assert len(ends.receive(ends.there, Kind.CONTROL)) == 0


def test_messages_keep_their_order_within_a_link_and_a_kind(ends: Ends) -> None:
    link = ends.link()
    sizes = [8, 50_000, 8, 300_000, 9000, 100, 1 << 20, 8]
    for number, size in enumerate(sizes):
        data = np.full(size, number, np.uint8)
        ends.send(link, Kind.CONTROL if number % 2 else Kind.SEGMENT, data)
    controls = [ends.receive(ends.there, Kind.CONTROL) for _ in sizes[1::2]]
    segments = [ends.receive(ends.there, Kind.SEGMENT) for _ in sizes[0::2]]
    assert [int(data[-1]) for data in controls] == [1, 3, 5, 7]
    assert [len(data) for data in controls] == sizes[1::2]
    assert [len(data) for data in segments] == sizes[0::2]


def test_an_answer_comes_to_the_link_and_nowhere_else(ends: Ends) -> None:
    link, other = ends.link(), ends.link()
    back = ends.there.connect(link.address)
    ends.send(back, Kind.SEGMENT, message(100_000))
    ends.turns(100)
    assert ends.here.probe(Kind.SEGMENT) is None
    assert other.probe(Kind.SEGMENT) is None
    assert link.probe(Kind.CONTROL) is None
    assert len(ends.receive(link, Kind.SEGMENT)) == 100_000


def test_a_large_message_waits_in_its_buffer_for_the_receiver(ends: Ends) -> None:
    link = ends.link()
    buffer = np.zeros(LARGE, np.uint8)
    operation = ends.send(link, Kind.CONTROL, buffer)
    arrival = ends.arrival(ends.there, Kind.CONTROL)
    ends.turns(100)
    assert state(operation) == UNDER_WAY
    buffer[:] = 7
    received = np.zeros(LARGE, np.uint8)
    receiving = arrival.receive(received)
    ends.until(lambda: operation.is_done and receiving.is_done)
    assert state(operation) == state(receiving) == ENDED_WELL
    assert (received == 7).all()


def test_many_large_messages_are_under_way_at_once(ends: Ends) -> None:
    link = ends.link()
    sent = [message(1 << 20, seed) for seed in range(8)]
    operations = [ends.send(link, Kind.CONTROL, data) for data in sent]
    arrivals = [ends.arrival(ends.there, Kind.CONTROL) for _ in sent]
    received = [np.zeros(1 << 20, np.uint8) for _ in sent]
    receiving = [each.receive(buffer) for each, buffer in zip(arrivals, received, strict=True)]
    ends.until(lambda: all(each.is_done for each in operations + receiving))
    for before, after in zip(sent, received, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("num_bytes", SIZES[1:])
def test_a_message_longer_than_its_buffer_ends_not_ok(ends: Ends, num_bytes: int) -> None:
    link = ends.link()
    ends.send(link, Kind.CONTROL, message(num_bytes))
    arrival = ends.arrival(ends.there, Kind.CONTROL)
    assert arrival.num_bytes == num_bytes
    small = np.zeros(num_bytes // 2, np.uint8)
    receiving = arrival.receive(small)
    ends.until(lambda: receiving.is_done)
    assert not receiving.is_ok
    ends.send(link, Kind.CONTROL, message(10))
    assert len(ends.receive(ends.there, Kind.CONTROL)) == 10


def test_a_message_may_be_shorter_than_its_buffer(ends: Ends) -> None:
    link, sent = ends.link(), message(100_000)
    ends.send(link, Kind.CONTROL, sent)
    arrival = ends.arrival(ends.there, Kind.CONTROL)
    buffer = np.zeros(200_000, np.uint8)
    receiving = arrival.receive(buffer)
    ends.until(lambda: receiving.is_done)
    assert receiving.is_ok
    np.testing.assert_array_equal(buffer[:100_000], sent)
    assert not buffer[100_000:].any()


def test_closing_a_link_ends_what_it_sends(ends: Ends) -> None:
    link = ends.link()
    operation = ends.send(link, Kind.SEGMENT, message(LARGE))
    ends.turns(20)
    link.close()
    assert state(operation) == ENDED_BADLY
    link.close()


def test_closing_a_link_ends_what_it_receives(ends: Ends) -> None:
    link = ends.link()
    back = ends.there.connect(link.address)
    ends.send(back, Kind.SEGMENT, message(LARGE))
    receiving = ends.arrival(link, Kind.SEGMENT).receive(np.zeros(LARGE, np.uint8))
    was_done = receiving.is_done
    link.close()
    assert receiving.is_done
    assert was_done or not receiving.is_ok
    assert link.probe(Kind.SEGMENT) is None


@pytest.mark.parametrize("num_bytes", SIZES)
def test_a_message_that_waits_does_not_keep_its_link_from_closing(
    ends: Ends, num_bytes: int
) -> None:
    link = ends.link()
    back = ends.there.connect(link.address)
    for _ in range(5):
        ends.send(back, Kind.SEGMENT, message(num_bytes))
    receiving = ends.arrival(link, Kind.SEGMENT).receive(np.zeros(num_bytes, np.uint8))
    ends.turns(20)
    link.close()  # the sender makes no more progress
    assert receiving.is_done


def test_what_has_ended_well_before_the_close_has_been_received(ends: Ends) -> None:
    link = ends.link()
    ends.send(link, Kind.CONTROL, message(100))
    assert len(ends.receive(ends.there, Kind.CONTROL)) == 100
    link.close()
    ends.turns(10)
    assert ends.there.probe(Kind.CONTROL) is None


def test_closing_a_link_leaves_the_others(ends: Ends) -> None:
    closed, kept = ends.link(), ends.link()
    ends.send(closed, Kind.SEGMENT, message(LARGE, 1))
    operation = ends.send(kept, Kind.CONTROL, message(LARGE, 2))
    closed.close()
    np.testing.assert_array_equal(ends.receive(ends.there, Kind.CONTROL), message(LARGE, 2))
    ends.until(lambda: operation.is_done)
    assert operation.is_ok


def test_links_can_be_made_and_closed_many_times(ends: Ends) -> None:
    for number in range(5):
        link = ends.link()
        ends.send(link, Kind.CONTROL, message(100, number))
        np.testing.assert_array_equal(ends.receive(ends.there, Kind.CONTROL), message(100, number))
        link.close()


def test_closing_a_transport_ends_what_its_links_do(ends: Ends) -> None:
    link = ends.link()
    operation = ends.send(link, Kind.SEGMENT, message(LARGE))
    ends.here.close()
    assert state(operation) == ENDED_BADLY
    ends.here.close()
    ends.here.wake()


def test_a_link_to_a_peer_that_is_there_is_not_broken(ends: Ends) -> None:
    link = ends.link()
    assert not link.is_broken
    ends.send(link, Kind.CONTROL, message(LARGE))
    ends.receive(ends.there, Kind.CONTROL)
    ends.turns(20)
    assert not link.is_broken
    ends.there.connect(link.address).close()
    ends.turns(20)
    assert not link.is_broken


def test_a_link_whose_peer_has_gone_is_broken(ends: Ends) -> None:
    """Or is not, where that cannot be known: see tests/kvtransfer/test_ucx_processes.py."""
    link, other = ends.link(), ends.new()
    kept = ends.here.connect(other.address)
    ends.send(link, Kind.CONTROL, message(10))
    ends.receive(ends.there, Kind.CONTROL)
    ends.there.close()
    ends.there = other
    if ends.learns_of_closing:
        ends.until(lambda: link.is_broken)
    ends.turns(100)
    assert link.is_broken == ends.learns_of_closing
    assert not kept.is_broken
    link.close()


def test_what_waits_for_a_peer_that_has_gone_ends_with_its_link(ends: Ends) -> None:
    link = ends.link()
    back = ends.there.connect(link.address)
    ends.send(back, Kind.SEGMENT, message(LARGE))
    receiving = ends.arrival(link, Kind.SEGMENT).receive(np.zeros(LARGE, np.uint8))
    sending = ends.send(link, Kind.SEGMENT, message(LARGE))
    ends.there.close()
    for _ in range(100):
        ends.here.poll(0)
    link.close()
    assert sending.is_done
    assert receiving.is_done


def test_there_can_be_links(ends: Ends) -> None:
    assert ends.here.max_links >= 1


def test_one_end_outlives_the_other(ends: Ends) -> None:
    """Its operations end when it closes its own link, not before it knows."""
    link = ends.link()
    operation = ends.send(link, Kind.SEGMENT, message(LARGE))
    ends.turns(20)
    ends.there.close()
    for _ in range(100):
        ends.here.poll(0)
    link.close()
    assert state(operation) == ENDED_BADLY
    third = ends.new()
    ends.there = third
    ends.send(ends.link(), Kind.CONTROL, message(50))
    assert len(ends.receive(third, Kind.CONTROL)) == 50


def test_what_is_sent_to_an_end_that_has_gone_ends_with_its_link(ends: Ends) -> None:
    """Sooner if the transport notices; never with an exception."""
    link = ends.link()
    ends.send(link, Kind.CONTROL, message(10))
    ends.receive(ends.there, Kind.CONTROL)
    ends.there.close()
    for num_bytes in (10, LARGE, 10):
        ends.send(link, Kind.CONTROL, message(num_bytes))
        for _ in range(2000):
            ends.here.poll(0)
    link.close()
    assert all(operation.is_done for operation in ends.operations)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\x00", id="zero"),
        pytest.param(lambda _: b"tcp://10.0.0.1:1234", id="text"),
        pytest.param(lambda _: bytes(300), id="zeros"),
        pytest.param(lambda _: message(300).tobytes(), id="random"),
        pytest.param(lambda address: address[:-1], id="cut"),
        pytest.param(lambda address: address[1:], id="beheaded"),
        pytest.param(lambda address: address + b"\x00", id="longer"),
        pytest.param(lambda address: address[:-1] + bytes([address[-1] ^ 1]), id="one-bit"),
    ],
)
def test_nonsense_is_no_address(ends: Ends, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TransportUnavailable):
        ends.here.connect(damage(ends.there.address))


def poll_in_thread(transport: Transport, seconds: float) -> tuple[bool, float]:
    """What one long poll says, and how long it took."""
    started = time.monotonic()
    moved = transport.poll(seconds)
    return moved, time.monotonic() - started


def settle(ends: Ends) -> None:
    """Nothing is left to do at either end."""
    while ends.here.poll(0) or ends.there.poll(0):
        pass


def test_a_poll_without_news_lasts_its_time(ends: Ends) -> None:
    settle(ends)
    moved, seconds = poll_in_thread(ends.here, 0.05)
    assert not moved
    assert 0.04 < seconds < 5.0


def test_wake_ends_a_poll_that_sleeps(ends: Ends) -> None:
    settle(ends)
    with ThreadPoolExecutor() as pool:
        polling = pool.submit(poll_in_thread, ends.here, 30.0)
        while not polling.done():
            ends.here.wake()
            threading.Event().wait(0.01)
        assert polling.result()[1] < 5.0


def test_a_wake_before_the_poll_is_not_lost(ends: Ends) -> None:
    settle(ends)
    ends.here.wake()
    assert poll_in_thread(ends.here, 30.0)[1] < 5.0
    settle(ends)
    assert poll_in_thread(ends.here, 0.05)[1] > 0.04


def test_a_message_ends_a_poll_that_sleeps(ends: Ends) -> None:
    link = ends.link()
    settle(ends)
    with ThreadPoolExecutor() as pool:
        polling = pool.submit(poll_in_thread, ends.there, 30.0)
        ends.send(link, Kind.CONTROL, message(100))
        while not polling.done():
            ends.here.poll(0)
        assert polling.result()[0]
        assert polling.result()[1] < 5.0
    assert len(ends.receive(ends.there, Kind.CONTROL)) == 100


def test_a_message_to_a_link_ends_a_poll_that_sleeps(ends: Ends) -> None:
    link = ends.link()
    back = ends.there.connect(link.address)
    settle(ends)
    with ThreadPoolExecutor() as pool:
        polling = pool.submit(poll_in_thread, ends.here, 30.0)
        ends.send(back, Kind.CONTROL, message(100))
        while not polling.done():
            ends.there.poll(0)
        assert polling.result()[1] < 5.0
    assert len(ends.receive(link, Kind.CONTROL)) == 100
