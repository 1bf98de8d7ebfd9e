"""Messages that no worker of ours sends."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from kvtransfer import messages
from kvtransfer.causes import Cause
from kvtransfer.messages import Cancel, Demand, Message, Ping, Pong, Refuse
from kvtransfer.seal import Seal
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.transport import Kind
from proto.fleet_key import KEY_BYTES, FleetKey
from tests.kvtransfer.builders import (
    eventually,
    make_demand,
    make_load,
    make_order,
    make_segment,
    make_ticket,
)
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.halves import BLOCKS, KV, begin, go_on, transfer
from tests.kvtransfer.rogue import Rogue


@pytest.fixture
def rogue(fleet: Fleet) -> Iterator[Rogue]:
    rogue = Rogue(fleet.new_transport())
    yield rogue
    rogue.transport.close()


def test_a_worker_outlives_nonsense(fleet: Fleet, rogue: Rogue) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    for data in (b"", b"\xff" * 50, b"\x91" * 8000, bytes(9000), bytes(100_000)):
        rogue.send(prefill.address, Kind.CONTROL, data)
        rogue.send(prefill.address, Kind.SEGMENT, data[:1000])
    rogue.wait_until(lambda: prefill.mover.stats().rejected_messages >= 4)
    transfer(prefill, decode, 2)


@pytest.mark.parametrize("address", [b"\xff", b"tcp://10.0.0.1:1234", bytes(4096)])
def test_a_demand_from_nowhere_costs_only_its_ticket(
    fleet: Fleet, rogue: Rogue, address: bytes
) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    prefill.prefill(make_ticket(50), "p50", KV, BLOCKS)
    rogue.tell(prefill.address, make_demand(make_ticket(50), reply_address=address))
    rogue.wait_until(lambda: prefill.finished().sent == ["p50"])
    transfer(prefill, decode, 2)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Cancel(make_ticket(), make_load()), id="cancel"),
        pytest.param(make_demand(num_tokens=32, reply_address=b"thief"), id="demand"),
        pytest.param(Ping(b"thief"), id="ping"),
        pytest.param(Pong(), id="pong"),
    ],
)
@pytest.mark.parametrize(
    "seal",
    [
        pytest.param(None, id="unsigned"),
        pytest.param(Seal(FleetKey(b"o" * KEY_BYTES)), id="another-fleet's"),
    ],
)
def test_what_is_not_the_fleets_has_no_effect(
    fleet: Fleet, rogue: Rogue, message: Message, seal: Seal | None
) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    prefill.compute(make_ticket(), "p1", KV, (0, 16), BLOCKS)
    data = messages.encode(message)
    rogue.send(prefill.address, Kind.CONTROL, seal.close(data) if seal else data)
    rogue.wait_until(lambda: prefill.mover.stats().rejected_messages == 1)
    assert (prefill.mover.stats().open_sends, prefill.mover.stats().links) == (1, 0)
    go_on(prefill)
    transfer(prefill, decode, 2)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * HEADER_BYTES, id="nonsense"),
        pytest.param(bytes(4 << 20), id="oversize"),
    ],
)
def test_what_is_no_segment_ends_in_recomputation_at_once(
    fleet: Fleet, rogue: Rogue, data: bytes
) -> None:
    decode = fleet.worker()
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    rogue.send(rogue.receive_demand().reply_address, Kind.SEGMENT, data)
    rogue.wait_until(lambda: decode.finished().failed == ["d1"])
    assert decode.mover.stats().failures == {"load_link_lost": 1}
    transfer(fleet.worker(), decode, 2)


@pytest.mark.parametrize(
    ("segment", "seed", "cause"),
    [
        pytest.param(make_segment(first_block=10), None, Cause.MALFORMED, id="not-asked-for"),
        pytest.param(make_segment(layer=3), None, Cause.MALFORMED, id="no-such-layer"),
        pytest.param(make_segment(payload_bytes=32), None, Cause.MALFORMED, id="too-short"),
        pytest.param(make_segment(), 0, Cause.CHECKSUM, id="damaged"),
    ],
)
def test_a_bad_segment_ends_in_recomputation(
    fleet: Fleet, rogue: Rogue, segment: Segment, seed: int | None, cause: Cause
) -> None:
    decode = fleet.worker()
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    rogue.send_segment(rogue.receive_demand().reply_address, segment, seed)
    rogue.wait_until(lambda: decode.finished().failed == ["d1"])
    assert decode.mover.stats().failures == {f"load_{cause}": 1}
    assert not decode.cache.blocks.any()


def test_a_segment_of_another_ticket_touches_nothing(fleet: Fleet, rogue: Rogue) -> None:
    decode = fleet.worker()
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    reply_address = rogue.receive_demand().reply_address
    rogue.send_segment(reply_address, make_segment(ticket=make_ticket(2)))
    rogue.wait_until(lambda: decode.mover.stats().late_segments == 1)
    assert decode.mover.stats().open_loads == 1
    assert not decode.cache.blocks.any()


def test_a_segment_that_comes_twice_ends_in_recomputation(fleet: Fleet, rogue: Rogue) -> None:
    decode = fleet.worker()
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    reply_address = rogue.receive_demand().reply_address
    for _ in range(2):
        rogue.send_segment(reply_address, make_segment())
    rogue.wait_until(lambda: decode.finished().failed == ["d1"])
    assert decode.mover.stats().failures == {"load_malformed": 1}


def test_a_refusal_concerns_its_load_only(fleet: Fleet, rogue: Rogue) -> None:
    decode = fleet.worker()
    for number in (1, 2):
        order = make_order(
            make_ticket(number), f"d{number}", source_addresses=(rogue.transport.address,)
        )
        decode.load(order)
    first, second = rogue.receive_demand(), rogue.receive_demand()
    for refuse in (
        Refuse(make_ticket(9), first.load, Cause.USED, "another ticket"),
        Refuse(first.ticket, second.load, Cause.USED, "another's load"),
        Refuse(second.ticket, second.load, Cause.EXPIRED, "its own"),
    ):
        rogue.tell(first.reply_address, refuse)
    rogue.wait_until(lambda: decode.finished().failed == ["d2"])
    assert decode.mover.stats().open_loads == 1
    assert decode.mover.stats().failures == {"load_expired": 1}


def tell_recorded(fleet: Fleet, rogue: Rogue, changes: dict[str, object]) -> Demand:
    """A demand as somebody on the way saw it."""
    decode = fleet.worker()
    decode.load(make_order(num_tokens=32, source_addresses=(rogue.transport.address,)))
    return msgspec.structs.replace(rogue.receive_demand(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as-it-was"),
        pytest.param({"reply_address": b"thief"}, id="to-elsewhere"),
        pytest.param({"load": make_load(7)}, id="as-another-load"),
    ],
)
def test_a_demand_that_was_recorded_brings_nothing(
    fleet: Fleet, rogue: Rogue, changes: dict[str, object]
) -> None:
    recorded = tell_recorded(fleet, rogue, changes)
    prefill, decode = fleet.worker(), fleet.worker()
    begin(prefill, decode)
    rogue.tell(prefill.address, recorded)
    go_on(prefill)
    assert decode.wait_for("d1").completed == ["d1"]
    # The sender counts a moment after the receiver has all.
    eventually(lambda: prefill.mover.stats().sends_completed == 1)
    rogue.tell(prefill.address, recorded)
    transfer(prefill, decode, 2)
    eventually(lambda: prefill.mover.stats().sends_completed == 2)
    received = decode.mover.stats()
    assert prefill.mover.stats().sent_bytes == received.received_bytes
    assert (received.late_segments, received.loads_failed) == (0, 0)
    np.testing.assert_array_equal(decode.cache.tokens(range(110, 118)), KV[:, :, :32])


def test_a_cancel_of_another_load_stops_nothing(fleet: Fleet, rogue: Rogue) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    begin(prefill, decode)
    rogue.tell(prefill.address, Cancel(make_ticket(), make_load(7)))
    rogue.tell(prefill.address, Cancel(make_ticket(5), make_load()))
    go_on(prefill)
    assert decode.wait_for("d1").completed == ["d1"]


def test_a_ticket_means_nothing_to_another_worker(fleet: Fleet) -> None:
    """Nobody there has its prompt: the load waits for its lease, and is then recomputed."""
    prefill, other, decode = fleet.worker(), fleet.worker(), fleet.worker()
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS)
    order = make_order(num_tokens=32, source_addresses=(other.address,), lease_seconds=0.2)
    decode.load(order)
    assert decode.wait_for("d1").failed == ["d1"]
    assert other.mover.stats().sent_bytes == 0
    assert prefill.mover.stats().open_sends == 1
