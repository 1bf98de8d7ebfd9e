from __future__ import annotations

from worker.block_change import Kind
from worker.sim.blocks import BlockPool


def make_pool(num_blocks: int = 4) -> BlockPool:
    pool = BlockPool(num_blocks, block_size=8)
    pool.journal = []
    return pool


def stored(pool: BlockPool, *keys: int) -> list[int]:
    """Blocks with these keys, as one request leaves them."""
    blocks = pool.allocate(len(keys))
    assert blocks is not None
    for block, key in zip(blocks, keys, strict=True):
        pool.store(block, key)
    pool.release(blocks)
    return blocks


def test_the_longest_unused_goes_first_and_of_one_request_its_end() -> None:
    pool = make_pool()
    stored(pool, 1, 2)
    stored(pool, 3, 4)
    pool.hold(used := pool.find([1]))
    pool.release(used)
    pool.allocate(3)
    assert pool.journal
    assert pool.journal[-3:] == [(Kind.REMOVED, 2), (Kind.REMOVED, 4), (Kind.REMOVED, 3)]
    assert pool.find([1, 2]) == used
    assert list(pool.keys) == [1]


def test_blank_blocks_go_before_those_that_can_be_found() -> None:
    pool = make_pool()
    stored(pool, 1)
    taken = pool.allocate(3)
    assert taken
    assert pool.keys == (1,)
    assert pool.allocate(2) is None
    pool.check_integrity([taken])


def test_what_is_held_by_others_stays() -> None:
    pool = make_pool()
    blocks = stored(pool, 1, 2)
    pool.hold(blocks)
    pool.hold(blocks)
    pool.release(blocks)
    assert (pool.num_held, pool.num_free, pool.num_idle(blocks)) == (2, 2, 0)
    pool.check_integrity([blocks])


def test_of_two_blocks_with_one_key_the_first_is_found() -> None:
    pool = make_pool()
    first = stored(pool, 1)
    pool.hold(first)
    second = stored(pool, 1)
    assert pool.find([1]) == first != second
    assert pool.journal == [(Kind.STORED, 1)]
