from __future__ import annotations

import numpy as np
import pytest

from fleet import guesses
from fleet.block_news import Snapshot, pack
from fleet.block_replica import BlockReplica
from fleet.prefix_index import PrefixIndex
from fleet.tier import BlockKeys, Tier
from tests.worker.builders import Clock

WORKERS = ("a/1", "b/1", "nobody/1")


def keys(*numbers: int) -> BlockKeys:
    return np.array(numbers, np.uint64)


def make_index(clock: Clock | None = None) -> PrefixIndex:
    """a/1 holds 1 and 2 on its device, and 3 in host memory."""
    replica = BlockReplica()
    replica.meet("a/1")
    replica.meet("b/1")
    replica.learn(Snapshot("a/1", 1, {Tier.DEVICE: pack([1, 2]), Tier.HOST: pack([3])}))
    return PrefixIndex(replica, clock or Clock(), turn_seconds=10)


def hits(index: PrefixIndex, *numbers: int) -> tuple[list[int], list[int]]:
    on_device, anywhere = index.hits(keys(*numbers), WORKERS)
    return on_device.tolist(), anywhere.tolist()


def test_hits_are_in_the_order_of_the_workers_and_by_tier() -> None:
    assert hits(make_index(), 1, 2, 3, 4) == ([2, 0, 0], [3, 0, 0])


def test_a_guess_counts_while_its_request_is_under_way_and_a_little_longer() -> None:
    clock = Clock()
    index = make_index(clock)
    index.expect("r", {"b/1": keys(1, 2, 3)})
    assert hits(index, 1, 2, 3, 4)[0] == [2, 3, 0]
    clock.now = 1000
    assert hits(index, 1, 2, 3, 4)[0] == [2, 3, 0]
    index.settle("r")
    assert hits(index, 1, 2, 3, 4)[0] == [2, 3, 0]
    clock.now = 1010
    assert hits(index, 1, 2, 3, 4)[0] == [2, 3, 0]
    clock.now = 1020
    assert hits(index, 1, 2, 3, 4)[0] == [2, 0, 0]


def test_what_was_expected_elsewhere_before_fades_within_two_turns() -> None:
    clock = Clock()
    index = make_index(clock)
    index.expect("r", {"b/1": keys(5, 6)})
    index.expect("r", {"a/1": keys(5, 6)})
    assert index.num_expected == 2
    for now, on_device in ((0, [2, 2, 0]), (10, [2, 2, 0]), (20, [2, 0, 0]), (30, [2, 0, 0])):
        clock.now = now
        assert hits(index, 5, 6)[0] == on_device


def test_what_is_told_meanwhile_outlives_the_guess() -> None:
    clock = Clock()
    index = make_index(clock)
    index.expect("r", {"b/1": keys(1, 2)})
    index.replica.learn(Snapshot("b/1", 1, {Tier.DEVICE: pack([1])}))
    assert hits(index, 1, 2)[0] == [2, 2, 0]
    index.settle("r")
    clock.now = 20
    assert hits(index, 1, 2)[0] == [2, 1, 0]


def test_guesses_outlive_news_and_then_end() -> None:
    clock = Clock()
    index = make_index(clock)
    index.expect("r", {"a/1": keys(4)})
    index.replica.learn(Snapshot("a/1", 7, {Tier.DEVICE: pack([9])}))
    while index.replica.clean():
        pass
    assert hits(index, 4)[0] == [1, 0, 0]
    index.settle("r")
    clock.now = 20
    assert hits(index, 4) == ([0, 0, 0], [0, 0, 0])
    assert hits(index, 9)[0] == [1, 0, 0]
    assert index.num_expected == 0


def test_a_request_is_expected_where_it_was_sent_last() -> None:
    clock = Clock()
    index = make_index(clock)
    index.expect("r", {"a/1": keys(5, 6)})
    index.expect("r", {"a/1": keys(5, 6), "b/1": keys(5, 6)})
    assert hits(index, 5, 6)[0] == [2, 2, 0]
    index.expect("r", {"b/1": keys(5, 6)})
    for clock.now in (10, 20, 30):
        found = hits(index, 5, 6)[0]
    assert found == [0, 2, 0]


def test_a_turn_with_many_under_way_forgets_none() -> None:
    clock = Clock()
    index = make_index(clock)
    for number in range(30):
        index.expect(f"r{number}", {"b/1": keys(100 + number)})
    for clock.now in (10, 19, 20, 30, 39):
        if clock.now == 30:
            index.settle("r29")
        for number in range(30):
            assert hits(index, 100 + number)[0] == [0, 1, 0], (clock.now, number)
    for clock.now in (40, 50):
        hits(index, 1)
    assert hits(index, 129)[0] == [0, 0, 0]
    assert hits(index, 128)[0] == [0, 1, 0]


def test_guesses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index()
    monkeypatch.setattr(guesses, "MAX_MARKS", 90)
    index.expect("r", {"b/1": keys(*range(100, 150))})
    index.expect("s", {"b/1": keys(*range(200, 250))})
    assert hits(index, *range(100, 150))[0][1] == 50
    assert hits(index, *range(200, 250))[0][1] == 0


def test_a_long_guess_is_told_too_short_by_a_64th_at_most() -> None:
    index = make_index()
    prompt = np.arange(1000, 1000 + 9000, dtype=np.uint64)
    index.expect("r", {"b/1": prompt})
    assert index.num_expected == 9000
    for shared in (1, 63, 64, 65, 200, 1000, 8999, 9000):
        asked = prompt.copy()
        asked[shared:] += np.uint64(100_000)
        found = index.hits(asked, WORKERS)[0].tolist()
        assert found[0] == found[2] == 0
        assert shared - 1 - shared // 64 <= found[1] <= shared
        assert index.hits(prompt[:shared], WORKERS)[0][1] == found[1]


def test_a_newcomer_is_known_at_once() -> None:
    index = make_index()
    assert hits(index, 9) == ([0, 0, 0], [0, 0, 0])
    index.replica.meet("nobody/1")
    index.replica.learn(Snapshot("nobody/1", 1, {Tier.DISK: pack([9])}))
    assert hits(index, 9) == ([0, 0, 0], [0, 0, 1])
