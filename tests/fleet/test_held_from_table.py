"""What one worker holds, read back from the table."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.block_table import BlockTable
from fleet.tier import Tier

steps = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 12),
        st.sampled_from(list(Tier)),
        st.lists(st.integers(1, 40), min_size=1, max_size=20),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps)
def test_it_is_what_was_added_and_not_removed(
    history: list[tuple[bool, int, Tier, list[int]]],
) -> None:
    table = BlockTable()
    held: dict[tuple[int, Tier], set[int]] = {}
    for adds, worker, tier, numbers in history:
        keys = np.array(numbers, np.uint64)
        if adds:
            table.add(worker, tier, keys)
            held.setdefault((worker, tier), set()).update(numbers)
        else:
            table.remove(worker, tier, keys)
            held.get((worker, tier), set()).difference_update(numbers)
    for worker in range(13):
        for tier in Tier:
            found = table.held(worker, tier).tolist()
            expected = held.get((worker, tier), set())
            assert len(found) == len(set(found))
            assert set(found) == expected
            prompt = np.arange(1, 42, dtype=np.uint64)
            first = next(n for n in range(1, 43) if n not in expected) - 1
            assert table.held_from_first(worker, tier, prompt) == first


def test_of_a_worker_that_is_not_known_it_is_nothing() -> None:
    table = BlockTable()
    assert len(table.held(5000, Tier.DEVICE)) == 0
    assert table.held_from_first(5000, Tier.DEVICE, np.array([1], np.uint64)) == 0


def test_warming_up_leaves_nothing_behind() -> None:
    BlockTable.warm_up()
    assert BlockTable().num_entries == 0
