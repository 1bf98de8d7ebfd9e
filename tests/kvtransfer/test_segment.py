from __future__ import annotations

import contextlib

import numpy as np
import pytest

from kvtransfer.errors import MalformedMessage
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.staging import Slot
from tests.kvtransfer.builders import make_segment, make_ticket


def message_of(segment: Segment) -> Slot:
    message = np.full(HEADER_BYTES + segment.payload_bytes, 0xEE, np.uint8)
    segment.write_header(message)
    return message


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(make_segment(), id="small"),
        pytest.param(make_segment(payload_bytes=0), id="no-payload"),
        pytest.param(
            Segment(make_ticket((1 << 128) - 1), (1 << 32) - 1, (1 << 32) - 1, (1 << 32) - 1, 5),
            id="largest",
        ),
    ],
)
def test_a_header_comes_back_as_it_was(segment: Segment) -> None:
    assert Segment.read(message_of(segment)) == segment


def test_a_header_leaves_the_payload_alone() -> None:
    message = message_of(make_segment(num_tokens=8))
    assert (message[HEADER_BYTES:] == 0xEE).all()


def test_the_end_is_one_past_the_last_token() -> None:
    assert make_segment(first_token=8, num_tokens=6).end_token == 14


@pytest.mark.parametrize("num_bytes", [0, 1, HEADER_BYTES - 1])
def test_a_message_without_a_whole_header_is_malformed(num_bytes: int) -> None:
    with pytest.raises(MalformedMessage, match="no header"):
        Segment.read(message_of(make_segment())[:num_bytes])


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
    make_segment(payload_bytes=payload_bytes).write_header(message)
    with pytest.raises(MalformedMessage, match=f"claims {payload_bytes} bytes and carries 32"):
        Segment.read(message)


def test_any_bytes_are_a_segment_or_malformed() -> None:
    random = np.random.default_rng(0)
    good = message_of(make_segment())
    for _ in range(2000):
        message = good.copy()
        message[random.integers(0, HEADER_BYTES, 3)] = random.integers(0, 256, 3)
        with contextlib.suppress(MalformedMessage):
            assert Segment.read(message).payload_bytes == make_segment().payload_bytes
