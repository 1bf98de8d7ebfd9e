from __future__ import annotations

import msgspec
import pytest

from fleet.block_news import (
    Batch,
    Cleared,
    Removed,
    Snapshot,
    Stored,
    decode_batch,
    decode_snapshot,
    encode,
    pack,
    unpack,
)
from fleet.tier import Tier

LARGEST = (1 << 64) - 1


def test_keys_come_back_as_they_were() -> None:
    assert unpack(pack([1, LARGEST])).tolist() == [1, LARGEST]
    assert pack([1]) == b"\x01" + bytes(7)


def test_batches_and_snapshots_come_back_as_they_were() -> None:
    news = (Stored(Tier.HOST, pack([1, 2])), Removed(Tier.DISK, pack([3])), Cleared(Tier.DEVICE))
    batch = Batch("prefill-0/abc", 7, news)
    assert decode_batch(encode(batch)) == batch
    snapshot = Snapshot("prefill-0/abc", 7, {Tier.DEVICE: pack([1])})
    assert decode_snapshot(encode(snapshot)) == snapshot


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no-msgpack"),
        pytest.param(msgspec.msgpack.encode(["w", -1, []]), id="negative-number"),
        pytest.param(msgspec.msgpack.encode(["w", 1, [["x", 0]]]), id="unknown-news"),
        pytest.param(msgspec.msgpack.encode(["w", 1, [["s", 3, bytes(8)]]]), id="a-guess"),
        pytest.param(msgspec.msgpack.encode(["w", 1, [["s", 0, bytes(7)]]]), id="part-of-a-key"),
    ],
)
def test_what_is_no_batch_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec has a sentence of its own for each
        decode_batch(data)


def test_a_snapshot_with_part_of_a_key_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="7 bytes are no list of block keys"):
        decode_snapshot(msgspec.msgpack.encode(["w", 1, {0: bytes(7)}]))
