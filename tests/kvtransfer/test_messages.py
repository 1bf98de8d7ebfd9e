from __future__ import annotations

import contextlib
import random

import msgspec
import pytest

from kvtransfer import messages
from kvtransfer.causes import Cause
from kvtransfer.errors import MalformedMessage
from kvtransfer.messages import (
    MAX_CONTROL_BYTES,
    MAX_LEASE_SECONDS,
    MAX_RANKS,
    MAX_REASON_CHARS,
    Cancel,
    Demand,
    Left,
    Message,
    Ping,
    Pong,
    Refuse,
)
from kvtransfer.seal import MAC_BYTES
from kvtransfer.wire import WireFormat
from tests.kvtransfer.builders import make_demand, make_load, make_ticket

LARGEST_DEMAND = Demand(
    make_ticket(),
    make_load(),
    MAX_RANKS - 1,
    b"a" * 4096,
    "l" * 3500,
    1 << 31,
    1 << 31,
    1 << 31,
    MAX_LEASE_SECONDS,
    WireFormat.INT8,
)
LARGEST_REFUSE = Refuse(
    make_ticket(), make_load(), Cause.PEER_SILENT, "\N{SNOWMAN}" * MAX_REASON_CHARS
)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(make_demand(), id="demand"),
        pytest.param(make_demand(num_tokens=0), id="empty-demand"),
        pytest.param(LARGEST_DEMAND, id="largest-demand"),
        pytest.param(Cancel(make_ticket(), make_load()), id="cancel"),
        pytest.param(
            Refuse(make_ticket(), make_load(), Cause.USED, "ticket already used"), id="refuse"
        ),
        pytest.param(Ping(b"here"), id="ping"),
        pytest.param(Pong(), id="pong"),
        pytest.param(Left(b"a" * 4096), id="left"),
        pytest.param(LARGEST_REFUSE, id="largest-refuse"),
    ],
)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    data = messages.encode(message)
    assert messages.decode(data) == message
    assert MAC_BYTES + len(data) <= MAX_CONTROL_BYTES


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Cancel(b"t" * 15, make_load()), id="short-ticket"),
        pytest.param(Cancel(b"t" * 17, make_load()), id="long-ticket"),
        pytest.param(Cancel(make_ticket(), b"l" * 17), id="long-load"),
        pytest.param(Ping(b""), id="no-address"),
        pytest.param(make_demand(rank=-1), id="negative-rank"),
        pytest.param(make_demand(rank=MAX_RANKS), id="too-high-a-rank"),
        pytest.param(make_demand(reply_address=b"a" * 4097), id="long-address"),
        pytest.param(make_demand(first_token=-1), id="negative-first"),
        pytest.param(make_demand(num_tokens=(1 << 31) + 1), id="too-many"),
        pytest.param(msgspec.structs.replace(make_demand(), layout="l" * 8193), id="long-layout"),
        pytest.param(
            Refuse(make_ticket(), make_load(), Cause.USED, "r" * (MAX_REASON_CHARS + 1)),
            id="long-reason",
        ),
    ],
)
def test_a_message_beyond_its_bounds_is_malformed(message: Message) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode(messages.encode(message))


CANCEL = messages.encode(Cancel(make_ticket(), make_load()))
REFUSE = messages.encode(Refuse(make_ticket(), make_load(), Cause.USED, "rr"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(CANCEL[:-1], id="cut"),
        pytest.param(CANCEL + b"\x00", id="more-behind"),
        pytest.param(msgspec.msgpack.encode(None), id="nil"),
        pytest.param(msgspec.msgpack.encode(["other", make_ticket()]), id="other-tag"),
        pytest.param(msgspec.msgpack.encode(["cancel"]), id="no-ticket"),
        pytest.param(
            msgspec.msgpack.encode(["cancel", "t" * 16, make_load()]), id="text-for-bytes"
        ),
        pytest.param(b"\x92\xa6canc\xff\xfe" + CANCEL[8:], id="tag-not-utf8"),
        pytest.param(REFUSE.replace(b"rr", b"\xff\xff"), id="reason-not-utf8"),
        pytest.param(REFUSE.replace(b"used", b"dust"), id="unknown-cause"),
        pytest.param(
            messages.encode(make_demand()).replace(b"raw", b"fp4"), id="unknown-wire-format"
        ),
        pytest.param(b"\x93" + CANCEL[1:] + b"\x91" * 8000 + b"\x01", id="deep"),
    ],
)
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match=f"control message of {len(data)} bytes"):
        messages.decode(data)


def test_any_bytes_are_a_message_or_malformed() -> None:
    dice = random.Random(0)
    good = messages.encode(make_demand(reply_address=b"a" * 20))
    for _ in range(5000):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        with contextlib.suppress(MalformedMessage):
            messages.decode(bytes(data[: dice.randrange(len(data) + 1)]))
