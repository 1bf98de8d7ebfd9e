"""The publisher in an engine's process and the feed in the worker's, without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from vllm.distributed.kv_events import (
    MEDIUM_CPU,
    MEDIUM_GPU,
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
)
from vllm.v1.core.block_pool import BlockHashToBlockMap
from vllm.v1.core.kv_cache_utils import KVCacheBlock, make_block_hash_with_group_id
from vllm.v1.kv_cache_interface import FullAttentionSpec

from fleet.block_news import MAX_KEYS
from fleet.tier import Tier
from worker.block_change import BlockChange, Kind
from worker.engine_blocks import BlockFeed, BlockPublisher

MANY = MAX_KEYS + 10


class Pool:
    """An engine's prefix cache."""

    def __init__(self) -> None:
        self.cached_block_hash_to_block = BlockHashToBlockMap()

    def hold(self, hashes: Iterable[bytes]) -> None:
        for number, name in enumerate(hashes):
            key = make_block_hash_with_group_id(name, 0)
            self.cached_block_hash_to_block.insert(key, KVCacheBlock(number))


@contextmanager
def publishing(pool: Pool) -> Iterator[tuple[BlockPublisher, BlockFeed]]:
    spec = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=8, dtype=torch.float16)
    scheduler = SimpleNamespace(
        kv_cache_manager=SimpleNamespace(block_pool=pool),
        kv_cache_config=SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec)]),
    )
    with BlockFeed() as feed:
        publisher = BlockPublisher(feed.endpoint, scheduler)
        try:
            yield publisher, feed
        finally:
            publisher.shutdown()


def names(count: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(1, count + 1)]


def stored(hashes: Sequence[bytes], medium: str = MEDIUM_GPU) -> EventBatch:
    event = BlockStored(
        block_hashes=list(hashes),
        parent_block_hash=None,
        token_ids=[],
        block_size=16,
        lora_id=None,
        medium=medium,
        lora_name=None,
    )
    return EventBatch(ts=0.0, events=[event])


async def told(feed: BlockFeed) -> list[BlockChange]:
    return list(await anext(aiter(feed.changes())))


def sizes(changes: Sequence[BlockChange], kind: Kind, tier: Tier) -> list[int]:
    return [len(each.keys) for each in changes if (each.kind, each.tier) == (kind, tier)]


async def test_what_the_device_holds_after_a_loss_is_told_in_parts() -> None:
    pool = Pool()
    pool.hold(names(MANY))
    with publishing(pool) as (publisher, feed):
        publisher._has_lost = True
        publisher.publish(stored(names(1)))
        changes = await told(feed)
    cleared = [each.tier for each in changes if each.kind is Kind.CLEARED]
    assert cleared == [Tier.DEVICE, Tier.HOST, Tier.DISK]
    assert sizes(changes, Kind.STORED, Tier.DEVICE) == [MAX_KEYS, 10]
    keys = {key for each in changes for key in each.keys}
    assert keys == set(range(1, MANY + 1))


async def test_large_news_are_told_in_parts() -> None:
    pool = Pool()
    pool.hold(names(MANY))
    with publishing(pool) as (publisher, feed):
        publisher.publish(stored(names(MANY)))
        assert sizes(await told(feed), Kind.STORED, Tier.DEVICE) == [MAX_KEYS, 10]
        publisher.publish(stored(names(MANY), MEDIUM_CPU))
        assert sizes(await told(feed), Kind.STORED, Tier.HOST) == [MAX_KEYS, 10]
        pool.cached_block_hash_to_block = BlockHashToBlockMap()
        gone = BlockRemoved(block_hashes=names(MANY), medium=MEDIUM_GPU)
        publisher.publish(EventBatch(ts=0.0, events=[gone]))
        assert sizes(await told(feed), Kind.REMOVED, Tier.DEVICE) == [MAX_KEYS, 10]


async def test_news_are_what_is_so_now() -> None:
    pool = Pool()
    pool.hold(names(2))
    with publishing(pool) as (publisher, feed):
        events = stored(names(3)).events
        publisher.publish(EventBatch(ts=0.0, events=[AllBlocksCleared(), *events]))
        changes = await told(feed)
    assert changes == [
        BlockChange(Kind.CLEARED, Tier.DEVICE),
        BlockChange(Kind.REMOVED, Tier.DEVICE, [3]),
        BlockChange(Kind.STORED, Tier.DEVICE, [1, 2]),
    ]
