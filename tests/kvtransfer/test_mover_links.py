"""Links are made when workers are introduced, and kept while the peer answers."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial

import pytest

from kvtransfer.errors import TransportUnavailable
from kvtransfer.inprocess import InProcessNetwork, InProcessTransport
from kvtransfer.mover import Finished
from kvtransfer.mover_config import MoverConfig
from kvtransfer.transport import Link
from proto.layout import KvLayout
from tests.kvtransfer.builders import eventually, make_order, make_ticket
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.halves import BLOCKS, KV, begin, go_on, load, transfer
from tests.kvtransfer.paged import kv_of
from tests.kvtransfer.rogue import Rogue

# A block is more than UCX sends without asking the receiver.
LARGE = KvLayout(16, 1, 1024, 512, "uint8", (8,))
PATIENCE_SECONDS = 30.0
IMPATIENT = MoverConfig(stall_seconds=0.4, ping_seconds=0.05)


class SlowTransport(InProcessTransport):
    """Connecting takes until it is told to go on."""

    gate: tuple[threading.Event, threading.Event]

    def __init__(self) -> None:
        super().__init__(InProcessNetwork())

    def connect(self, address: bytes) -> Link:
        is_connecting, may_go_on = self.gate
        is_connecting.set()
        may_go_on.wait(PATIENCE_SECONDS)
        raise TransportUnavailable("nobody is there")


def introduce(worker: Worker, addresses: Iterable[bytes]) -> None:
    worker.mover.post(partial(worker.mover.dialogue.introduce, addresses))


def links(*workers: Worker) -> list[int]:
    return [worker.mover.stats().links for worker in workers]


def test_introduced_workers_are_linked_before_any_request(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    introduce(decode, [prefill.address])
    eventually(lambda: links(prefill, decode) == [1, 1])
    transfer(prefill, decode, 1)
    assert links(prefill, decode) == [1, 1]


def test_being_introduced_again_changes_nothing(fleet: Fleet) -> None:
    prefill, other, decode = (fleet.worker() for _ in range(3))
    for _ in range(3):
        introduce(decode, [prefill.address, other.address])
    eventually(lambda: links(prefill, other, decode) == [1, 1, 2])


def test_the_engine_does_not_wait_for_links_that_are_made() -> None:
    transport, is_connecting, may_go_on = SlowTransport(), threading.Event(), threading.Event()
    transport.gate = (is_connecting, may_go_on)
    with Worker(transport) as worker:
        introduce(worker, [b"somewhere"])
        try:
            assert is_connecting.wait(PATIENCE_SECONDS)
            assert worker.half.take_finished() == Finished([], [], [], [])
            assert not worker.mover.revoke(make_ticket(), "nothing is open")
            assert links(worker) == [0]
        finally:
            may_go_on.set()


def test_who_cannot_be_reached_holds_up_no_other(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    introduce(decode, [b"nowhere", prefill.address])
    eventually(lambda: links(prefill, decode) == [1, 1])
    assert "WARNING" in [record.levelname for record in caplog.records]


def test_when_a_peer_is_said_to_be_gone_its_loads_are_recomputed_at_once(fleet: Fleet) -> None:
    prefill, other, decode = (fleet.worker() for _ in range(3))
    load(prefill, decode, 1)
    load(other, decode, 2)
    eventually(lambda: links(decode) == [2])
    decode.mover.post(partial(decode.mover.dialogue.part, [prefill.address]))
    assert decode.wait_for("d1").failed == ["d1"]
    assert decode.mover.stats().failures == {"load_link_lost": 1}
    other.prefill(make_ticket(2), "p2", KV, BLOCKS)
    assert decode.wait_for("d2").completed == ["d2"]


def test_when_a_receiver_is_lost_its_prompt_is_freed_at_once(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    begin(prefill, decode)
    decode.mover.post(partial(decode.mover.dialogue.part, [prefill.address]))
    assert decode.wait_for("d1").failed == ["d1"]
    transfer(prefill, decode, 2)
    go_on(prefill)
    assert "p1" in prefill.wait_for("p1").sent


def test_a_source_that_does_not_answer_is_given_up_long_before_its_lease(fleet: Fleet) -> None:
    rogue, decode = Rogue(fleet.new_transport()), fleet.worker(IMPATIENT)
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    rogue.receive_demand()
    assert decode.wait_for("d1").failed == ["d1"]
    (cause,) = decode.mover.stats().failures
    assert cause in ("load_peer_silent", "load_link_lost")
    rogue.transport.close()


def test_a_source_that_computes_for_long_is_waited_for(fleet: Fleet) -> None:
    """It says nothing of the prompt, but it answers."""
    prefill, decode = fleet.worker(IMPATIENT), fleet.worker(IMPATIENT)
    load(prefill, decode)
    threading.Event().wait(3 * IMPATIENT.stall_seconds)
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    assert decode.wait_for("d1").completed == ["d1"]


def test_a_receiver_that_waits_for_long_keeps_its_prompt(fleet: Fleet) -> None:
    """It is silent about what it has asked for, but it asks whether we are there."""
    prefill, decode = fleet.worker(IMPATIENT), fleet.worker(IMPATIENT)
    begin(prefill, decode)
    threading.Event().wait(3 * IMPATIENT.stall_seconds)
    go_on(prefill)
    assert decode.wait_for("d1").completed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]


def test_after_a_pause_of_its_own_a_worker_gives_up_nobody(fleet: Fleet) -> None:
    """What it finds late then may have come long ago."""
    prefill, decode = fleet.worker(layout=LARGE), fleet.worker(IMPATIENT, LARGE)
    pauses = iter([2 * IMPATIENT.stall_seconds])
    decode.cache.before_copy = lambda: threading.Event().wait(next(pauses, 0.0))
    decode.load(make_order(num_tokens=48, source_addresses=(prefill.address,), layout=LARGE))
    prefill.prefill(make_ticket(), "p1", kv_of(LARGE, 1, 49), BLOCKS)
    assert decode.wait_for("d1").completed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]
    assert decode.mover.stats().failures == prefill.mover.stats().failures == {}


def test_who_was_silent_has_its_whole_time_again_though_requests_never_pause(
    simulated_fleet: Fleet,
) -> None:
    """Else every request would fail at once, before an answer to it can have come."""
    config = MoverConfig(stall_seconds=1.0, ping_seconds=0.05)
    rogue, decode = Rogue(simulated_fleet.new_transport()), simulated_fleet.worker(config)

    def ask(number: int) -> None:
        source = (rogue.transport.address,)
        decode.load(make_order(make_ticket(number), f"d{number}", source_addresses=source))

    ask(1)
    assert decode.wait_for("d1").failed == ["d1"]
    later = range(2, 52)
    for number in later:
        ask(number)
        threading.Event().wait(config.stall_seconds / 500)
    assert decode.finished().failed == ["d1"]
    rogue.transport.close()
