from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from kvtransfer.errors import MalformedMessage
from kvtransfer.segment import HEADER_BYTES, Segment, is_intact
from kvtransfer.staging import Slot
from kvtransfer.wire import WireFormat
from tests.kvtransfer.builders import SEAL, make_segment, make_ticket

SEED = SEAL.seed(make_ticket())
LARGEST = Segment(
    make_ticket((1 << 128) - 1),
    layer=(1 << 32) - 1,
    first_block=(1 << 32) - 1,
    num_blocks=(1 << 32) - 1,
    first_head=(1 << 16) - 1,
    num_heads=(1 << 16) - 1,
    payload_bytes=5,
    wire=WireFormat.INT8,
)


def message_of(segment: Segment, seed: int = SEED) -> Slot:
    message = np.full(HEADER_BYTES + segment.payload_bytes, 0xEE, np.uint8)
    segment.seal(message, seed)
    return message


def is_accepted(message: Slot, seed: int = SEED) -> bool:
    try:
        Segment.read(message)
    except MalformedMessage:
        return False
    return is_intact(message, seed)


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(make_segment(), id="small"),
        pytest.param(make_segment(payload_bytes=0), id="no-payload"),
        pytest.param(make_segment(wire=WireFormat.FP8), id="fp8"),
        pytest.param(LARGEST, id="largest"),
    ],
)
def test_a_segment_comes_back_as_it_was(segment: Segment) -> None:
    message = message_of(segment)
    assert Segment.read(message) == segment
    assert is_intact(message, SEED)


def test_sealing_leaves_the_payload_alone() -> None:
    message = message_of(make_segment(num_blocks=2))
    assert (message[HEADER_BYTES:] == 0xEE).all()


def test_nothing_of_what_was_in_the_slot_stays_in_the_header() -> None:
    slot = np.zeros(HEADER_BYTES, np.uint8)
    make_segment(payload_bytes=0).seal(slot, SEED)
    np.testing.assert_array_equal(message_of(make_segment(payload_bytes=0)), slot)


def test_ends_are_one_past_the_last() -> None:
    segment = make_segment(first_block=8, num_blocks=6, heads=range(1, 2))
    assert (segment.end_block, segment.heads) == (14, range(1, 2))


def test_every_flipped_bit_is_noticed() -> None:
    message = message_of(make_segment())
    for position in range(8 * len(message)):
        message[position // 8] ^= 1 << position % 8
        assert not is_accepted(message), f"bit {position}"
        message[position // 8] ^= 1 << position % 8
    assert is_accepted(message)


def test_two_exchanged_bytes_are_noticed() -> None:
    message = message_of(make_segment())
    message[HEADER_BYTES:] = np.arange(len(message) - HEADER_BYTES)
    make_segment().seal(message, SEED)
    for first in range(HEADER_BYTES, len(message) - 1):
        message[[first, first + 1]] = message[[first + 1, first]]
        assert not is_accepted(message)
        message[[first, first + 1]] = message[[first + 1, first]]


def test_the_header_of_one_segment_fits_no_other() -> None:
    one, other = message_of(make_segment(0)), message_of(make_segment(1))
    other[HEADER_BYTES:] = 0xEF
    make_segment(1).seal(other, SEED)
    one[:HEADER_BYTES] = other[:HEADER_BYTES]
    assert not is_accepted(one)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(0, id="none"),
        pytest.param(SEAL.seed(make_ticket(2)), id="another-ticket's"),
        pytest.param(SEED ^ 1, id="one-bit"),
    ],
)
def test_with_another_seed_it_is_not_intact(seed: int) -> None:
    assert not is_intact(message_of(make_segment()), seed)


def test_a_ticket_that_was_exchanged_is_noticed() -> None:
    """Each ticket has a seed of its own, so a segment of one cannot be shown as another's."""
    message = message_of(make_segment(ticket=make_ticket(1)), SEAL.seed(make_ticket(1)))
    forged = make_segment(ticket=make_ticket(2))
    forged.seal(message, SEAL.seed(make_ticket(1)))
    assert not is_intact(message, SEAL.seed(Segment.read(message).ticket))


@pytest.mark.parametrize("num_bytes", [0, 1, HEADER_BYTES - 1])
def test_a_message_without_a_whole_header_is_malformed(num_bytes: int) -> None:
    with pytest.raises(MalformedMessage, match="no header"):
        Segment.read(message_of(make_segment())[:num_bytes])


def test_a_truncated_message_is_malformed() -> None:
    message = message_of(make_segment())
    for num_bytes in range(HEADER_BYTES, len(message)):
        with pytest.raises(MalformedMessage, match=r"claims 64 bytes and carries \d+"):
            Segment.read(message[:num_bytes])


def test_a_message_with_another_magic_number_is_malformed() -> None:
    message = message_of(make_segment())
    message[0] ^= 1
    with pytest.raises(MalformedMessage, match="magic"):
        Segment.read(message)


@pytest.mark.parametrize(
    "payload_bytes",
    [pytest.param(31, id="less"), pytest.param(33, id="more"), pytest.param(1 << 63, id="absurd")],
)
def test_a_message_that_claims_another_length_is_malformed(payload_bytes: int) -> None:
    message = np.zeros(HEADER_BYTES + 32, np.uint8)
    make_segment(payload_bytes=payload_bytes).seal(message, SEED)
    with pytest.raises(MalformedMessage, match=f"claims {payload_bytes} bytes and carries 32"):
        Segment.read(message)


def test_a_message_of_an_unknown_form_is_malformed() -> None:
    message = message_of(make_segment())
    good = message_of(replace(make_segment(), wire=WireFormat.INT8))
    (position,) = np.flatnonzero(message[:40] != good[:40])
    message[position] = 9
    with pytest.raises(MalformedMessage, match=r"unknown form \(9, 0\)"):
        Segment.read(message)


def test_any_bytes_are_a_segment_or_malformed() -> None:
    random = np.random.default_rng(0)
    good = message_of(make_segment())
    for _ in range(2000):
        message = good.copy()
        message[random.integers(0, HEADER_BYTES, 3)] = random.integers(0, 256, 3)
        with contextlib.suppress(MalformedMessage):
            assert Segment.read(message).payload_bytes == make_segment().payload_bytes
