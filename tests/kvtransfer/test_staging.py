from __future__ import annotations

import numpy as np
import pytest

from kvtransfer.errors import StagingExhausted
from kvtransfer.staging import Slot, StagingPool


def test_slots_are_distinct_and_of_one_size() -> None:
    pool = StagingPool(3, 100)
    slots = [pool.acquire() for _ in range(3)]
    for number, slot in enumerate(slots):
        slot[:] = number
    assert [slot.nbytes for slot in slots] == [100, 100, 100]
    assert [int(slot[0]) for slot in slots] == [0, 1, 2]
    pool.check_integrity()


def test_held_bytes_follow_what_is_held() -> None:
    pool = StagingPool(2, 100)
    slot = pool.acquire()
    assert (pool.held_bytes, pool.num_free) == (100, 1)
    assert repr(pool) == "<StagingPool 1 of 2 slots held>"
    pool.release(slot)
    assert (pool.held_bytes, pool.num_free) == (0, 2)
    pool.check_integrity()


def test_no_slot_more_than_there_are() -> None:
    pool = StagingPool(1, 8)
    slot = pool.acquire()
    with pytest.raises(StagingExhausted, match="all 1 staging slots"):
        pool.acquire()
    pool.release(slot)
    assert pool.acquire() is slot


def test_a_slot_is_released_once() -> None:
    pool = StagingPool(2, 8)
    slot = pool.acquire()
    pool.release(slot)
    with pytest.raises(KeyError):
        pool.release(slot)
    pool.check_integrity()


def test_a_pool_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        StagingPool(0, 8)


def test_slots_come_from_the_given_allocator_and_only_at_the_start() -> None:
    allocated: list[int] = []

    def allocate(num_bytes: int) -> Slot:
        allocated.append(num_bytes)
        return np.zeros(num_bytes, np.uint8)

    pool = StagingPool(4, 16, allocate)
    for _ in range(3):
        pool.release(pool.acquire())
    assert allocated == [16] * 4
