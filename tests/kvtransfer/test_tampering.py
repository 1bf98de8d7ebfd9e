"""Messages that are damaged, repeated or lost on their way, whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from kvtransfer.mover_config import MoverConfig
from kvtransfer.segment import HEADER_BYTES
from kvtransfer.staging import Slot
from kvtransfer.transport import Kind
from tests.kvtransfer.builders import make_ticket
from tests.kvtransfer.conftest import Fleet
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.halves import BLOCKS, KV, NUM_TOKENS, load, transfer
from tests.kvtransfer.wrapped import TamperedTransport

SHORT = MoverConfig(stall_seconds=0.5, ping_seconds=0.1)
Change = Callable[[Slot], Sequence[Slot]]


def flipped(position: int) -> Change:
    def change(message: Slot) -> list[Slot]:
        changed = message.copy()
        changed[position] ^= 0x10
        return [changed]

    return change


def only(kind: Kind, number: int, change: Change) -> Callable[[Kind, Slot], Sequence[Slot]]:
    """Changes the message of this number (from 0) among those of its kind."""
    count = 0

    def tamper(sent: Kind, message: Slot) -> Sequence[Slot]:
        nonlocal count
        count += sent is kind
        return change(message) if sent is kind and count == number + 1 else [message]

    return tamper


DAMAGES = [
    pytest.param(flipped(0), "load_link_lost", id="magic"),
    pytest.param(flipped(4), None, id="ticket"),
    pytest.param(flipped(21), "load_checksum", id="layer"),
    pytest.param(flipped(HEADER_BYTES - 1), "load_checksum", id="checksum"),
    pytest.param(flipped(HEADER_BYTES), "load_checksum", id="first-byte"),
    pytest.param(flipped(-1), "load_checksum", id="last-byte"),
    pytest.param(lambda message: [message[:-1].copy()], "load_link_lost", id="truncated"),
    pytest.param(
        lambda message: [message[: HEADER_BYTES - 1].copy()], "load_link_lost", id="headless"
    ),
    pytest.param(lambda message: [message, message.copy()], "load_malformed", id="repeated"),
]


def hand_over(prefill: Worker, decode: Worker) -> None:
    load(prefill, decode, lease_seconds=0.5)
    prefill.prefill(make_ticket(), "p1", KV, BLOCKS, lease_seconds=0.5)


@pytest.mark.parametrize(("change", "failure"), DAMAGES)
def test_one_damaged_segment_ends_in_recomputation(
    fleet: Fleet, change: Change, failure: str | None
) -> None:
    """One whose ticket is damaged is dropped with its link, or not: then the lease ends it."""
    tampered = TamperedTransport(fleet.new_transport(), only(Kind.SEGMENT, 1, change))
    prefill, decode = fleet.worker(SHORT, transport=tampered), fleet.worker(SHORT)
    hand_over(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]
    if failure:
        assert decode.mover.stats().failures == {failure: 1}
    landed = decode.cache.tokens(range(110, 118))
    assert ((landed == KV[:, :, : NUM_TOKENS - 1]) | (landed == 0)).all()
    transfer(prefill, decode, 2)
    prefill.wait_until_idle()
    decode.wait_until_idle()


def test_a_lost_segment_ends_in_recomputation(fleet: Fleet) -> None:
    tampered = TamperedTransport(fleet.new_transport(), only(Kind.SEGMENT, 1, lambda _: []))
    prefill, decode = fleet.worker(SHORT, transport=tampered), fleet.worker(SHORT)
    hand_over(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]
    assert decode.mover.stats().failures == {"load_expired": 1}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(flipped(0), id="mac"),
        pytest.param(flipped(-1), id="content"),
        pytest.param(lambda message: [message[:-1].copy()], id="truncated"),
        pytest.param(lambda _: [], id="lost"),
    ],
)
def test_a_lost_demand_ends_in_recomputation(fleet: Fleet, change: Change) -> None:
    tampered = TamperedTransport(fleet.new_transport(), only(Kind.CONTROL, 0, change))
    prefill, decode = fleet.worker(SHORT), fleet.worker(SHORT, transport=tampered)
    hand_over(prefill, decode)
    assert decode.wait_for("d1").failed == ["d1"]
    assert prefill.wait_for("p1").sent == ["p1"]
    transfer(prefill, decode, 2)


def test_messages_that_come_twice_do_nothing_twice(fleet: Fleet) -> None:
    """Every control message of both sides, as somebody on the way could repeat it."""

    def twice(kind: Kind, message: Slot) -> Sequence[Slot]:
        return [message, message.copy()] if kind is Kind.CONTROL else [message]

    prefill, decode = (
        fleet.worker(transport=TamperedTransport(fleet.new_transport(), twice)) for _ in range(2)
    )
    load(prefill, decode)
    prefill.compute(make_ticket(), "p1", KV, (0, 16), BLOCKS)
    prefill.compute(make_ticket(), "p1", KV, (16, NUM_TOKENS), BLOCKS)
    prefill.end(make_ticket(), "p1")
    decode.wait_for("d1")
    assert prefill.wait_for("p1").sent == ["p1"]
    sent, received = prefill.mover.stats(), decode.mover.stats()
    assert sent.sent_bytes == received.received_bytes
    assert decode.finished().completed == ["d1"]
    np.testing.assert_array_equal(decode.cache.tokens(range(110, 118)), KV[:, :, : NUM_TOKENS - 1])
