from __future__ import annotations

import pytest

from fleet import held_blocks
from fleet.block_news import Batch, Cleared, Removed, Stored, pack, unpack
from fleet.held_blocks import HeldBlocks
from fleet.tier import Tier


def test_only_what_changes_is_told() -> None:
    held = HeldBlocks("w/1")
    held.store(Tier.DEVICE, [1, 2])
    held.store(Tier.DEVICE, [2, 3])
    held.remove(Tier.DEVICE, [1, 9])
    held.remove(Tier.HOST, [1])
    held.clear(Tier.DISK)
    batch = held.take_batch()
    assert batch is not None
    assert (batch.worker, batch.number) == ("w/1", 1)
    assert batch.news == (
        Stored(Tier.DEVICE, pack([1, 2])),
        Stored(Tier.DEVICE, pack([3])),
        Removed(Tier.DEVICE, pack([1])),
    )
    assert held.take_batch() is None
    assert len(held) == 2


def test_a_block_whose_key_would_be_0_is_left_out() -> None:
    held = HeldBlocks("w/1")
    held.store(Tier.DEVICE, [0])
    assert held.take_batch() is None
    held.store(Tier.DEVICE, [1, 0])
    held.remove(Tier.DEVICE, [0])
    batch = held.take_batch()
    assert batch is not None
    assert batch.news == (Stored(Tier.DEVICE, pack([1])),)
    assert held.snapshot().tiers == {Tier.DEVICE: pack([1])}


def test_tiers_are_kept_apart_and_cleared_apart() -> None:
    held = HeldBlocks("w/1")
    held.store(Tier.DEVICE, [1])
    held.store(Tier.HOST, [1])
    held.clear(Tier.DEVICE)
    batch = held.take_batch()
    assert batch is not None
    assert batch.news[-1] == Cleared(Tier.DEVICE)
    assert {tier: unpack(keys).tolist() for tier, keys in held.snapshot().tiers.items()} == {
        Tier.HOST: [1]
    }


def test_batches_are_numbered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_blocks, "MAX_NEWS", 2)
    monkeypatch.setattr(held_blocks, "MAX_KEYS", 3)
    held = HeldBlocks("w/1")
    held.store(Tier.DEVICE, range(1, 9))
    batches = [held.take_batch(), held.take_batch(), held.take_batch()]
    told = [
        [unpack(news.keys).tolist() for news in batch.news if isinstance(news, Stored)]
        for batch in batches
        if batch
    ]
    assert told == [[[1, 2, 3], [4, 5, 6]], [[7, 8]]]
    assert held.number == 2


def test_a_new_beginning_takes_the_place_of_what_was_not_told() -> None:
    """Its snapshot has a number of its own: who follows the batches sees that one is missing."""
    held = HeldBlocks("w/1")
    held.store(Tier.DEVICE, [1])
    assert held.take_batch() is not None
    held.store(Tier.DEVICE, [2])
    snapshot, batch = held.begin_again()
    assert (snapshot.number, sorted(unpack(snapshot.tiers[Tier.DEVICE]))) == (2, [1, 2])
    assert batch == Batch("w/1", 3, ())
    assert held.take_batch() is None


def test_news_that_nobody_takes_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_blocks, "MAX_UNTOLD", 2)
    held = HeldBlocks("w/1")
    for key in range(1, 6):
        held.store(Tier.DEVICE, [key])
    assert held.has_given_up
    assert held.take_batch() is None
    assert len(unpack(held.begin_again()[0].tiers[Tier.DEVICE])) == 5
    held.store(Tier.DEVICE, [9])
    assert held.take_batch() is not None
