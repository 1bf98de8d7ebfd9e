"""A gateway's replica beside the workers' own accounts, over a way that loses and repeats."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fleet import block_replica
from fleet.block_news import Batch, Snapshot
from fleet.block_replica import BlockReplica
from fleet.held_blocks import HeldBlocks
from fleet.tier import Tier

HELD = (Tier.DEVICE, Tier.HOST, Tier.DISK)


def known_of(replica: BlockReplica, worker: str, keys: list[int]) -> set[int]:
    """Which of these blocks the replica says `worker` holds, on any tier."""
    row = replica.rows[worker]
    return {key for key in keys if replica.match(np.array([key], np.uint64)).anywhere[row]}


def truth(held: HeldBlocks) -> set[int]:
    snapshot = held.snapshot()
    return {int(key) for keys in snapshot.tiers.values() for key in np.frombuffer(keys, "<u8")}


def batch_of(held: HeldBlocks) -> Batch:
    batch = held.take_batch()
    assert batch is not None
    return batch


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_to_know_what_workers_hold_whatever_is_lost(seed: int) -> None:
    dice = random.Random(seed)
    universe = [dice.randrange(1, 1 << 64) for _ in range(60)]
    replica = BlockReplica()
    workers = {name: HeldBlocks(name) for name in ("a/1", "b/1", "c/1")}
    for name, held in workers.items():
        replica.meet(name)
        replica.learn(held.snapshot())
    for _ in range(300):
        held = dice.choice(list(workers.values()))
        tier, keys = dice.choice(HELD), dice.choices(universe, k=dice.randrange(1, 8))
        change = dice.choices(["store", "remove", "clear"], [60, 35, 5])[0]
        if change == "clear":
            held.clear(tier)
        else:
            getattr(held, change)(tier, keys)
        while (batch := held.take_batch()) is not None:
            copies = dice.choices([0, 1, 2], [10, 80, 10])[0]
            for _ in range(copies):
                if not replica.hear(batch):
                    replica.learn(held.snapshot())
        replica.clean()
    for name, held in workers.items():
        replica.learn(Snapshot(name, held.number + 1, held.snapshot().tiers))
    while replica.clean():
        pass
    for name, held in workers.items():
        assert known_of(replica, name, universe) == truth(held)
    assert replica.table.num_entries == sum(map(len, workers.values()))


def test_batches_that_come_out_of_order_wait_for_those_before() -> None:
    replica, held = BlockReplica(), HeldBlocks("a/1")
    replica.meet("a/1")
    replica.learn(held.snapshot())
    batches = []
    for key in (1, 2, 3):
        held.store(Tier.DEVICE, [key])
        batches.append(batch_of(held))
    assert not replica.hear(batches[2])
    assert not replica.is_whole("a/1")
    assert known_of(replica, "a/1", [1, 2, 3]) == set()
    assert not replica.hear(batches[1])
    assert replica.hear(batches[0])
    assert known_of(replica, "a/1", [1, 2, 3]) == {1, 2, 3}


def test_until_a_snapshot_comes_nothing_is_known_and_then_all_is() -> None:
    replica, held = BlockReplica(), HeldBlocks("a/1")
    held.store(Tier.DEVICE, [1])
    first = batch_of(held)
    snapshot = held.snapshot()
    held.store(Tier.DEVICE, [2])
    replica.meet("a/1")
    assert not replica.hear(first)
    assert not replica.hear(batch_of(held))
    assert known_of(replica, "a/1", [1, 2]) == set()
    replica.learn(snapshot)
    assert replica.is_whole("a/1")
    assert known_of(replica, "a/1", [1, 2]) == {1, 2}


def test_a_snapshot_of_long_ago_changes_nothing() -> None:
    replica, held = BlockReplica(), HeldBlocks("a/1")
    replica.meet("a/1")
    replica.learn(held.snapshot())
    old = held.snapshot()
    held.store(Tier.DEVICE, [1])
    replica.hear(batch_of(held))
    replica.learn(old)
    assert known_of(replica, "a/1", [1]) == {1}


def test_a_worker_that_has_left_holds_nothing_and_another_incarnation_nothing_of_it() -> None:
    replica = BlockReplica()
    held, other = HeldBlocks("a/1"), HeldBlocks("b/1")
    for each in (held, other):
        each.store(Tier.DEVICE, range(1, 100))
        replica.meet(each.worker)
        replica.learn(Snapshot(each.worker, 0, each.snapshot().tiers))
    replica.part("a/1")
    replica.meet("a/2")
    assert replica.rows.keys() == {"a/2", "b/1"}
    assert known_of(replica, "a/2", [1, 2]) == set()
    assert known_of(replica, "b/1", [1, 2]) == {1, 2}
    while replica.clean():
        pass
    assert replica.table.num_entries == 99
    replica.meet("c/1")
    assert replica.rows["c/1"] not in (replica.rows["a/2"], replica.rows["b/1"])


def make_held(replica: BlockReplica, *tiers: Tier) -> HeldBlocks:
    """A worker that holds 1 to 99 on each of these, as this replica knows."""
    held = HeldBlocks("a/1")
    for tier in tiers:
        held.store(tier, range(1, 100))
    batch_of(held)
    replica.meet("a/1")
    replica.learn(held.snapshot())
    return held


def test_a_worker_that_holds_nothing_any_more_goes_on_in_another_row() -> None:
    replica = BlockReplica()
    held = make_held(replica, Tier.DEVICE)
    row, generation = replica.rows["a/1"], replica.generation
    held.clear(Tier.DEVICE)
    held.store(Tier.DEVICE, [1, 100])
    assert replica.hear(batch_of(held))
    assert known_of(replica, "a/1", [1, 2, 100]) == {1, 100}
    assert replica.rows["a/1"] != row
    assert replica.generation > generation
    assert replica.table.num_held(row, Tier.DEVICE) == 99
    while replica.clean():
        pass
    assert replica.table.num_entries == 2


def test_a_tier_that_is_cleared_leaves_the_others_as_they_are() -> None:
    replica = BlockReplica()
    held = make_held(replica, Tier.DEVICE, Tier.HOST)
    held.remove(Tier.HOST, [1])
    held.clear(Tier.DEVICE)
    held.store(Tier.DEVICE, [2])
    held.clear(Tier.DISK)
    assert replica.hear(batch_of(held))
    assert replica.held("a/1", Tier.DEVICE).tolist() == [2]
    assert sorted(replica.held("a/1", Tier.HOST).tolist()) == list(range(2, 100))
    while replica.clean():
        pass
    assert replica.table.num_entries == 99


def test_a_worker_that_is_cleared_without_end_takes_rows_no_faster_than_they_are_emptied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_replica, "MAX_LEAVING", 3)
    replica = BlockReplica()
    held = make_held(replica, Tier.DEVICE)
    for _ in range(10):
        held.clear(Tier.DEVICE)
        held.store(Tier.DEVICE, [1, 2])
        assert replica.hear(batch_of(held))
        assert known_of(replica, "a/1", [1, 2, 3]) == {1, 2}
    assert replica.rows["a/1"] == 3


def test_news_of_strangers_are_ignored() -> None:
    replica, held = BlockReplica(), HeldBlocks("a/1")
    held.store(Tier.DEVICE, [1])
    assert replica.hear(batch_of(held))
    replica.learn(held.snapshot())
    replica.part("a/1")
    assert replica.rows == {}
    assert replica.table.num_entries == 0
    assert not replica.clean()
