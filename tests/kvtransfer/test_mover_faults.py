"""Whatever fails: loads end, blocks are freed, nothing hangs, and the other workers go on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from kvtransfer.connector_orders import StepOrders
from kvtransfer.faults import CorruptingTransport
from kvtransfer.mover_config import MoverConfig
from tests.kvtransfer.builders import eventually, make_ticket
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.halves import BLOCKS, KV, NUM_TOKENS, begin, go_on, load, transfer
from tests.kvtransfer.wrapped import RaisingTransport

SHORT = MoverConfig(stall_seconds=1.0, ping_seconds=0.2)


def test_when_the_sender_stops_its_loads_are_recomputed(fleet: Fleet) -> None:
    prefill, other, decode = fleet.worker(), fleet.worker(), fleet.worker(SHORT)
    begin(prefill, decode, lease_seconds=2.0)
    prefill.mover.stop()
    assert decode.wait_for("d1").failed == ["d1"]
    transfer(other, decode, 2)
    decode.wait_until_idle()


def test_when_the_receiver_stops_its_prompts_are_freed(fleet: Fleet) -> None:
    prefill, decode, other = fleet.worker(SHORT), fleet.worker(), fleet.worker()
    begin(prefill, decode, lease_seconds=2.0)
    decode.mover.stop()
    go_on(prefill)
    assert prefill.wait_for("p1").sent == ["p1"]
    prefill.wait_until_idle()
    transfer(prefill, other, 2)


def test_corruption_in_flight_is_recomputed_and_never_written(fleet: Fleet) -> None:
    prefill = fleet.worker(transport=CorruptingTransport(fleet.new_transport()))
    decode = fleet.worker()
    load(prefill, decode)
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    assert decode.wait_for("d1").failed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]
    assert decode.mover.stats().failures == {"load_checksum": 1}
    assert not decode.cache.blocks.any()
    kept = prefill.cache.tokens(BLOCKS)[:, :, :NUM_TOKENS]
    np.testing.assert_array_equal(kept, KV)
    transfer(fleet.worker(), decode, 2)


@pytest.mark.parametrize("times", [1, 3])
def test_a_link_that_was_given_up_is_closed_at_both_ends(fleet: Fleet, times: int) -> None:
    """Also where the transport does not notice that the other end is closed."""
    prefill, decode = fleet.worker(), fleet.worker()
    for number in range(1, times + 1):
        transfer(prefill, decode, number)
        decode.mover.post(partial(decode.mover.dialogue.part, [prefill.address]))
        eventually(lambda: decode.mover.stats().links == 0)
    transfer(prefill, decode, 9)
    eventually(lambda: prefill.mover.stats().links == decode.mover.stats().links == 1)


def test_when_the_transfer_thread_of_the_receiver_fails_every_load_is_recomputed(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    transport = RaisingTransport(fleet.new_transport())
    prefill, decode = fleet.worker(), fleet.worker(transport=transport)
    begin(prefill, decode)
    transport.fail()
    assert decode.wait_for("d1").failed == ["d1"]
    assert "from now on every load is recomputed" in caplog.text
    load(prefill, decode, 2)
    assert decode.wait_for("d2").failed == ["d1", "d2"]
    decode.cancel("d2")
    assert decode.finished().cancelled == []
    assert not decode.mover.revoke(make_ticket(3), "late")
    decode.half.preempted(StepOrders(preempted=["d3"]))


def test_when_the_transfer_thread_of_the_sender_fails_every_prompt_is_freed(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    transport = RaisingTransport(fleet.new_transport())
    prefill, decode = fleet.worker(transport=transport), fleet.worker()
    begin(prefill, decode, lease_seconds=2.0)
    transport.fail()
    # Until it is polled again, what is computed would still be sent.
    eventually(lambda: "the transfer thread has failed" in caplog.text)
    go_on(prefill)
    assert prefill.wait_for("p1").sent == ["p1"]
    prefill.prefill(make_ticket(2), "p2", KV, BLOCKS)
    assert prefill.wait_for("p2").sent == ["p1", "p2"]
    assert decode.wait_for("d1").failed == ["d1"]


def test_a_copy_that_fails_ends_in_recomputation(simulated_fleet: Fleet) -> None:
    prefill, decode = simulated_fleet.worker(), simulated_fleet.worker()

    def fail() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    decode.cache.before_copy = fail
    load(prefill, decode)
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    assert decode.wait_for("d1").failed == ["d1"]
