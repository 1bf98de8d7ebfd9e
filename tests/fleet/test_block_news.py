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
        pytest.param(msgspec.msgpack.encode(["w", 1, [["s", 3, pack([1])]]]), id="a-guess"),
        pytest.param(msgspec.msgpack.encode(["w", 1, [["s", 0, pack([1, 0])]]]), id="no-key"),
        pytest.param(msgspec.msgpack.encode(["w", 1, [["s", 0, bytes(7)]]]), id="part-of-a-key"),
    ],
)
def test_what_is_no_batch_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec has a sentence of its own for each
        decode_batch(data)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param(bytes(7), "7 bytes are no list of block keys", id="part-of-a-key"),
        pytest.param(pack([1, 0, 2]), "0 is no block key", id="no-key"),
    ],
)
def test_a_snapshot_with_what_is_no_key_is_a_value_error(keys: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_snapshot(msgspec.msgpack.encode(["w", 1, {0: keys}]))


def test_nothing_held_is_no_error() -> None:
    snapshot = Snapshot("w", 1, {Tier.DEVICE: b""})
    assert decode_snapshot(encode(snapshot)) == snapshot
