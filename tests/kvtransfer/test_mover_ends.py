"""Every way in which a transfer can end before it is complete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvtransfer.connector_orders import Declined, StepOrders
from tests.kvtransfer.builders import LAYOUT, eventually, make_load, make_order, make_ticket
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.halves import BLOCKS, KV, NUM_TOKENS, begin, go_on, load, transfer
from tests.kvtransfer.paged import kv_of


def test_a_cancelled_load_ends_and_nothing_more_is_written(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    begin(prefill, decode)
    decode.cancel("d1")
    assert decode.wait_for("d1").cancelled == ["d1"]
    left = decode.cache.blocks.copy()
    go_on(prefill)
    assert prefill.wait_for("p1").sent == ["p1"]
    transfer(prefill, decode, 2)
    np.testing.assert_array_equal(decode.cache.blocks[:, 110:120], left[:, 110:120])
    assert decode.finished().cancelled == ["d1"]
    assert decode.finished().failed == []


def test_a_load_can_be_cancelled_in_the_step_that_starts_it(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    order = make_order(num_tokens=32, source_addresses=(prefill.address,))
    decode.half.begin(StepOrders(loads=[order], cancelled_loads=["d1"]))
    assert decode.wait_for("d1").cancelled == ["d1"]
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    assert prefill.wait_for("p1").sent == ["p1"]


def test_a_declined_ticket_frees_the_prefill_side(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    declined = Declined(make_ticket(), make_load(), (prefill.address,))
    decode.half.begin(StepOrders(declined=[declined]))
    assert prefill.wait_for("p1").sent == ["p1"]
    assert prefill.mover.stats().sends_failed == 1


def test_a_load_revoked_on_its_own_side_is_recomputed_and_the_sender_freed(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    begin(prefill, decode)
    assert decode.mover.revoke(make_ticket(), "the gateway says so")
    assert decode.finished().failed == ["d1"]
    assert not decode.mover.revoke(make_ticket(), "again")
    go_on(prefill)
    assert prefill.wait_for("p1").sent == ["p1"]
    transfer(prefill, decode, 2)


def test_a_send_revoked_on_its_own_side_is_recomputed_at_once(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    begin(prefill, decode)
    assert prefill.mover.revoke(make_ticket(), "r" * 2000)
    assert decode.wait_for("d1").failed == ["d1"]
    go_on(prefill)
    assert prefill.wait_for("p1").sent == ["p1"]
    transfer(prefill, decode, 2)


def test_a_ticket_revoked_before_its_load_is_recomputed_at_once(simulated_fleet: Fleet) -> None:
    prefill, decode = simulated_fleet.worker(), simulated_fleet.worker()
    assert not decode.mover.revoke(make_ticket(), "prefill failed")
    load(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]


@pytest.mark.parametrize("is_demanded", [True, False])
def test_an_aborted_prefill_is_freed_and_its_load_recomputed(
    simulated_fleet: Fleet, is_demanded: bool
) -> None:
    prefill, decode = simulated_fleet.worker(), simulated_fleet.worker()
    if is_demanded:
        begin(prefill, decode)
    else:
        prefill.compute(make_ticket(), "p1", KV, (0, 16), BLOCKS)
    prefill.end(make_ticket(), "p1", is_prefilled=False)
    assert prefill.wait_for("p1").sent == ["p1"]
    if not is_demanded:
        load(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]


def test_a_prefill_that_never_had_blocks_refuses_its_ticket(simulated_fleet: Fleet) -> None:
    prefill, decode = simulated_fleet.worker(), simulated_fleet.worker()
    load(prefill, decode)
    prefill.half.begin(StepOrders(aborted_sends=[make_ticket()]))
    assert decode.wait_for("d1").failed == ["d1"]


def test_a_load_whose_prompt_is_never_computed_expires(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    load(prefill, decode, lease_seconds=0.2)
    assert decode.wait_for("d1").failed == ["d1"]
    transfer(prefill, decode, 2)


def test_a_prompt_that_nobody_asks_for_expires(fleet: Fleet) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS, lease_seconds=0.1)
    assert prefill.wait_for("p1").sent == ["p1"]
    load(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]
    transfer(prefill, decode, 2)


def test_a_load_from_nowhere_is_recomputed_at_once(simulated_fleet: Fleet) -> None:
    decode = simulated_fleet.worker()
    decode.load(make_order(source_addresses=(b"nowhere",)))
    assert decode.wait_for("d1").failed == ["d1"]


def test_another_layout_is_recomputed_at_once(simulated_fleet: Fleet) -> None:
    other = replace(LAYOUT, dtype="float16")
    prefill, decode = simulated_fleet.worker(layout=other), simulated_fleet.worker()
    prefill.prefill(make_ticket(), "p1", kv_of(other, 1, NUM_TOKENS), BLOCKS)
    load(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]
    assert decode.mover.stats().failures == {"load_layout": 1}
    assert prefill.mover.stats().failures == {"send_layout": 1, "demand_layout": 1}


def test_a_ticket_that_two_loads_show_serves_the_first(simulated_fleet: Fleet) -> None:
    prefill, decode = simulated_fleet.worker(), simulated_fleet.worker()
    load(prefill, decode)
    order = make_order(request_id="thief", num_tokens=32, source_addresses=(prefill.address,))
    decode.load(order)
    assert decode.wait_for("thief").failed == ["thief"]
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    assert decode.wait_for("d1").completed == ["d1"]


def test_a_second_decode_worker_cannot_use_the_ticket(simulated_fleet: Fleet) -> None:
    prefill, decode, thief = (simulated_fleet.worker() for _ in range(3))
    load(prefill, decode)
    eventually(lambda: "1 parked" in repr(prefill.mover.sends))
    load(prefill, thief)
    assert thief.wait_for("d1").failed == ["d1"]
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    assert decode.wait_for("d1").completed == ["d1"]
