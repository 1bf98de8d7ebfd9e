from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fleet.block_news import Snapshot, pack
from fleet.block_replica import BlockReplica
from fleet.prefix_index import PrefixIndex
from fleet.tier import BlockKeys, Tier
from gateway.routing.columns import Floats
from gateway.routing.fleet_table import FleetTable
from gateway.routing.prompt_hits import PromptHits
from tests.gateway.builders import Fleet, make_worker
from tests.gateway.routing.builders import by_key
from tests.proto.builders import SMALLER_BLOCKS

# Of one prompt, in blocks of 16 and of 8 tokens.
LARGE, SMALL = range(1, 5), range(101, 109)


def keys(numbers: Iterable[int]) -> BlockKeys:
    return np.array(list(numbers), np.uint64)


PROMPT = {16: keys(LARGE), 8: keys(SMALL)}


def make_hits() -> tuple[PromptHits, FleetTable]:
    """Blocks of d2 are smaller. d1 holds one block of the prompt and d2 two, and one on disk."""
    table = Fleet("d1 d2", "p1", {"d2": SMALLER_BLOCKS}).table
    replica = BlockReplica()
    for key, tiers in (
        ("d1", {Tier.DEVICE: pack(LARGE[:1])}),
        ("d2", {Tier.DEVICE: pack(SMALL[:2]), Tier.DISK: pack(SMALL[2:3])}),
    ):
        replica.meet(key)
        replica.learn(Snapshot(key, 1, {int(tier): held for tier, held in tiers.items()}))
    replica.meet("p1")
    return PromptHits(PrefixIndex(replica, lambda: 0.0), table), table


def shown(table: FleetTable, found: tuple[Floats, Floats]) -> dict[str, tuple[float, float]]:
    on_device, anywhere = (by_key(table, column) for column in found)
    return {key: (on_device[key], anywhere[key]) for key in on_device}


def test_hits_are_in_tokens_whatever_the_size_of_blocks() -> None:
    hits, table = make_hits()
    assert shown(table, hits.of(PROMPT)) == {"d1": (16, 16), "d2": (16, 24), "p1": (0, 0)}


def test_a_prompt_without_keys_has_no_hits() -> None:
    hits, table = make_hits()
    assert set(shown(table, hits.of({})).values()) == {(0, 0)}
    only_large = hits.of({16: PROMPT[16], 8: keys([])})
    assert shown(table, only_large)["d2"] == (0, 0)


def test_what_is_sent_there_is_expected_there_but_not_held() -> None:
    hits, table = make_hits()
    for worker in ("p1", "d2", "gone"):
        hits.expect(f"to {worker}", [worker], PROMPT)
    assert shown(table, hits.of(PROMPT)) == {"d1": (16, 16), "d2": (64, 64), "p1": (64, 64)}
    assert [hits.held_tokens(worker, PROMPT) for worker in ("d1", "d2", "p1", "gone")] == [
        16,
        16,
        0,
        0,
    ]


def test_a_worker_whose_size_the_prompt_was_not_hashed_for_is_passed_over() -> None:
    hits, table = make_hits()
    prompt = {16: PROMPT[16]}
    hits.expect("a", ["d2"], prompt)
    assert hits.held_tokens("d2", prompt) == 0
    assert shown(table, hits.of(prompt)) == {"d1": (16, 16), "d2": (0, 0), "p1": (0, 0)}


def test_a_worker_that_joins_has_no_hits_of_the_row_before_it() -> None:
    hits, table = make_hits()
    row = table.rows["d1"]
    table.remove("d1")
    table.put(make_worker("d9", can_decode=True), is_usable=True)
    assert table.rows["d9"] == row
    assert shown(table, hits.of(PROMPT))["d9"] == (0, 0)
