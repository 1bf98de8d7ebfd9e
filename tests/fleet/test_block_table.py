"""The compact table beside a dictionary that does the same plainly."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from fleet.block_table import MAX_WORKERS, BlockTable
from fleet.tier import BlockKeys, Tier

Holder = tuple[int, Tier]
ON_DEVICE = (Tier.DEVICE, Tier.EXPECTED)


def keys_of(numbers: Iterable[int]) -> BlockKeys:
    return np.array(list(numbers), np.uint64)


class Plain:
    """What is held, without any cleverness."""

    def __init__(self) -> None:
        self.holders: dict[int, set[Holder]] = {}

    def add(self, worker: int, tier: Tier, keys: Sequence[int]) -> None:
        for key in keys:
            self.holders.setdefault(key, set()).add((worker, tier))

    def remove(self, worker: int, tier: Tier, keys: Iterable[int]) -> None:
        for key in keys:
            if holders := self.holders.get(key):
                holders.discard((worker, tier))
                if not holders:
                    del self.holders[key]

    def purge(self, worker: int, tier: Tier) -> None:
        self.remove(worker, tier, list(self.holders))

    def num_matched(self, worker: int, tiers: Iterable[Tier], prompt: Sequence[int]) -> int:
        for number, key in enumerate(prompt):
            if not self.holders.get(key, set()) & {(worker, tier) for tier in tiers}:
                return number
        return len(prompt)


@pytest.mark.parametrize("num_workers", [2, 12, 64, 200])
@pytest.mark.parametrize("seed", range(3))
def test_it_knows_what_a_dictionary_would_know(seed: int, num_workers: int) -> None:
    dice = random.Random(f"{seed} {num_workers}")
    known = [dice.randrange(1, 1 << 64) for _ in range(150)]
    table, plain = BlockTable(), Plain()
    for _ in range(400):
        worker, tier = dice.randrange(num_workers), dice.choice(list(Tier))
        keys = dice.choices(known, k=dice.randrange(1, 40))
        match dice.choices(["add", "remove", "purge"], [60, 36, 4])[0]:
            case "add":
                table.add(worker, tier, keys_of(keys))
                plain.add(worker, tier, keys)
            case "remove":
                table.remove(worker, tier, keys_of(keys))
                plain.remove(worker, tier, keys)
            case _:
                for _ in table.purge(worker, tier):
                    pass
                plain.purge(worker, tier)
        assert table.num_blocks == len(plain.holders)
        assert table.num_entries == sum(map(len, plain.holders.values()))
    for _ in range(50):
        prompt = dice.choices(known, k=dice.randrange(8))
        found = table.match(keys_of(prompt))
        for worker in range(num_workers):
            assert found.on_device[worker] == plain.num_matched(worker, ON_DEVICE, prompt)
            assert found.anywhere[worker] == plain.num_matched(worker, Tier, prompt)


def test_it_grows_with_what_it_is_given_and_stays_small() -> None:
    table = BlockTable()
    dice = np.random.default_rng(1)
    held = [dice.integers(1, 1 << 63, 5_000, np.uint64) for _ in range(40)]
    for worker, keys in enumerate(held):
        table.add(worker, Tier.DEVICE, keys)
    assert table.num_entries == 200_000
    assert table.num_bytes / table.num_entries < 64
    for worker, keys in enumerate(held):
        assert table.match(keys).on_device[worker] == len(keys)


def test_a_popular_prefix_takes_little_for_each_of_its_holders() -> None:
    table = BlockTable()
    shared = np.arange(1, 1001, dtype=np.uint64)
    for worker in range(1000):
        table.add(worker, Tier.DEVICE, shared)
    assert table.num_entries == 1_000_000
    assert table.num_bytes / table.num_entries < 0.5
    assert table.match(shared).on_device[:1000].tolist() == [1000] * 1000


def test_sets_of_holders_that_nobody_has_any_more_take_no_room() -> None:
    table = BlockTable()
    dice = random.Random(5)
    sizes = []
    for _ in range(12):
        for worker in range(60):
            first = dice.randrange(2000)
            table.add(worker, Tier.DEVICE, np.arange(first + 1, 3001, dtype=np.uint64))
        for worker in range(0, 60, 2):
            table.remove(worker, Tier.DEVICE, np.arange(1, 3001, dtype=np.uint64))
        for worker in range(1, 60, 2):
            for _ in table.purge(worker, Tier.DEVICE):
                pass
        assert (table.num_entries, table.num_blocks) == (0, 0)
        sizes.append(table.num_bytes)
    assert sizes[-1] <= 2 * sizes[0]


@pytest.mark.parametrize("step", [1, 7, 60])
def test_a_prompt_told_in_pieces_is_found_as_one(step: int) -> None:
    table = BlockTable()
    prompt = np.arange(1, 121, dtype=np.uint64)
    ends = {worker: 20 + worker % 90 for worker in range(100)}
    for worker, end in ends.items():
        for first in range(0, end, step):
            table.add(worker, Tier.DEVICE, prompt[first : min(first + step, end)])
    found = table.match(prompt).on_device
    assert {worker: found[worker] for worker in ends} == ends


def test_tiers_are_kept_apart() -> None:
    table = BlockTable()
    prompt = keys_of(range(1, 7))
    table.add(0, Tier.DEVICE, prompt[:2])
    table.add(0, Tier.HOST, prompt[2:4])
    table.add(0, Tier.DISK, prompt[4:5])
    found = table.match(prompt)
    assert (found.on_device[0], found.anywhere[0]) == (2, 5)
    assert [table.num_held(0, tier) for tier in Tier] == [2, 2, 1, 0]
    table.remove(0, Tier.HOST, prompt)
    assert (table.match(prompt).on_device[0], table.match(prompt).anywhere[0]) == (2, 2)


def test_what_others_hold_is_changed_while_one_is_purged() -> None:
    table = BlockTable()
    dice = np.random.default_rng(2)
    ours, theirs, later = (dice.integers(1, 1 << 63, 60_000, np.uint64) for _ in range(3))
    table.add(0, Tier.DEVICE, ours)
    table.add(1, Tier.DEVICE, theirs)
    for number, _ in enumerate(table.purge(0, Tier.DEVICE)):
        table.remove(1, Tier.DEVICE, theirs[number * 1000 : number * 1000 + 1000])
        table.add(1, Tier.DEVICE, later[number * 1000 : number * 1000 + 1000])
    assert table.num_held(0, Tier.DEVICE) == 0
    assert table.match(ours).on_device[0] == 0
    assert table.num_held(1, Tier.DEVICE) == 60_000


def test_workers_that_nobody_has_named_hold_nothing() -> None:
    table = BlockTable()
    table.remove(5000, Tier.DEVICE, keys_of([1]))
    assert list(table.purge(5000, Tier.DEVICE)) == []
    assert table.num_held(5000, Tier.DEVICE) == 0
    assert table.match(keys_of([])).on_device.sum() == 0
    with pytest.raises(ValueError, match="up to 16384"):
        table.add(MAX_WORKERS, Tier.DEVICE, keys_of([1]))
