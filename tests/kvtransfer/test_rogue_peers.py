"""Messages that no worker of ours sends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from kvtransfer import messages
from kvtransfer.messages import Refuse
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.transport import Kind
from tests.kvtransfer.builders import LAYOUT, make_order, make_segment, make_ticket
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.halves import BLOCKS, KV, transfer
from tests.kvtransfer.rogue import Rogue


@pytest.fixture
def rogue(fleet: Fleet) -> Iterator[Rogue]:
    rogue = Rogue(fleet.new_transport())
    yield rogue
    rogue.transport.close()


def test_a_worker_outlives_nonsense(fleet: Fleet, rogue: Rogue) -> None:
    prefill, decode = fleet.worker(), fleet.worker()
    nonsense = [b"", b"\xff" * 50, b"\x91" * 8000, bytes(9000)]
    for number, address in enumerate((b"", b"\xff", rogue.transport.address[:-1]), start=50):
        demand = messages.Demand(make_ticket(number), address, LAYOUT.fingerprint, 0, 4, 4)
        nonsense.append(messages.encode(demand))
        prefill.prefill(make_ticket(number), f"p{number}", KV, BLOCKS)
    for data in nonsense:
        rogue.send(prefill.address, Kind.CONTROL, data)
    ended = {"p50", "p51", "p52"}
    rogue.wait_until(lambda: ended <= set(prefill.finished().sent))
    transfer(prefill, decode, 2)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * HEADER_BYTES, id="nonsense"),
        pytest.param(bytes(4 << 20), id="oversize"),
    ],
)
def test_a_damaged_segment_ends_in_recomputation_at_once(
    fleet: Fleet, rogue: Rogue, data: bytes
) -> None:
    decode = fleet.worker()
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    rogue.send(rogue.receive_demand().reply_address, Kind.SEGMENT, data)
    rogue.wait_until(lambda: decode.finished().failed == ["d1"])
    transfer(fleet.worker(), decode, 2)


def test_a_segment_that_was_not_asked_for_ends_in_recomputation(fleet: Fleet, rogue: Rogue) -> None:
    decode = fleet.worker()
    decode.load(make_order(source_addresses=(rogue.transport.address,)))
    segment = make_segment(first_token=40)
    message = np.ones(HEADER_BYTES + segment.payload_bytes, np.uint8)
    segment.write_header(message)
    rogue.send(rogue.receive_demand().reply_address, Kind.SEGMENT, message.tobytes())
    rogue.wait_until(lambda: decode.finished().failed == ["d1"])
    assert not decode.cache.blocks.any()


def test_a_refusal_concerns_its_ticket_only(fleet: Fleet, rogue: Rogue) -> None:
    decode = fleet.worker()
    for number in (1, 2):
        order = make_order(
            make_ticket(number), f"d{number}", source_addresses=(rogue.transport.address,)
        )
        decode.load(order)
    reply_address = rogue.receive_demand().reply_address
    for number in (9, 2):
        refuse = messages.encode(Refuse(make_ticket(number), "used"))
        rogue.send(reply_address, Kind.CONTROL, refuse)
    rogue.wait_until(lambda: decode.finished().failed == ["d2"])
    assert decode.mover.stats().open_loads == 1
