"""What an engine's scheduler tells about its prefix cache and its work, from both ends.

Written against vllm/v1/core/block_pool.py and vllm/distributed/kv_events.py of vLLM 0.32.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio
from vllm.distributed.kv_events import (
    MEDIUM_CPU,
    MEDIUM_GPU,
    MEDIUM_STORAGE,
    AllBlocksCleared,
    BlockStored,
    EventBatch,
    EventPublisher,
)
from vllm.utils.network_utils import get_open_zmq_ipc_path
from vllm.v1.core.kv_cache_utils import make_block_hash_with_group_id
from vllm.v1.kv_cache_interface import is_full_attention_spec

from fleet.block_news import Cleared, News, Removed, Stored, pack, unpack
from fleet.held_blocks import parts
from fleet.tier import Tier
from proto.block_key import block_key
from worker.block_change import BlockChange, Kind
from worker.work import Work

MAX_MESSAGES = 1 << 14
WORK_SECONDS = 0.1
TIERS = {
    None: Tier.DEVICE,
    MEDIUM_GPU: Tier.DEVICE,
    MEDIUM_CPU: Tier.HOST,
    MEDIUM_STORAGE: Tier.DISK,
}
# What is on a device is told by the pool that has it.
BELOW = (Tier.HOST, Tier.DISK)


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One message of the scheduler's: what has changed, or what it has computed."""

    news: tuple[News, ...] = ()
    work: dict[str, float] | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Told)


class BlockPublisher(EventPublisher):  # type: ignore[misc]
    """In the engine's process. Of a model with several kinds of attention, the dense one's
    blocks: only they hold a prompt's KV from its start on.

    What cannot be sent at once is not kept: all that the device holds is told anew later.
    """

    def __init__(self, endpoint: str, scheduler: Any) -> None:
        super().__init__()
        self._pool = scheduler.kv_cache_manager.block_pool
        self._group = dense_group(scheduler.kv_cache_config)
        self._has_lost = False
        self._worked_at = 0.0
        self._socket: Any = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, MAX_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def publish(self, events: EventBatch) -> None:
        if self._group is not None:
            self._send_news(self._news_of(events.events))

    def tell_work(self, work: Work, *, is_last: bool) -> None:
        """Once in WORK_SECONDS, and before the engine rests."""
        now = time.monotonic()
        if is_last or now - self._worked_at >= WORK_SECONDS:
            self._worked_at = now
            self._send(Told(work=asdict(work)))

    def held(self) -> bytes:
        """The packed keys of what the device holds."""
        return pack(self._held())

    def shutdown(self) -> None:
        self._socket.close()

    def _held(self) -> Iterator[int]:
        """Whole blocks alone."""
        if self._group is None:
            return
        suffix = make_block_hash_with_group_id(b"", self._group)
        for name in self._pool.cached_block_hash_to_block._cache:
            if name.endswith(suffix):
                yield block_key(name[: -len(suffix)])

    def _news_of(self, events: Iterable[Any]) -> tuple[News, ...]:
        """Of the device what is so now, since a block may be there twice, or gone already."""
        touched: dict[bytes, None] = {}
        news: list[News] = []
        for event in events:
            if isinstance(event, AllBlocksCleared):
                touched.clear()
                news.append(Cleared(Tier.DEVICE))
            elif event.group_idx in (None, self._group):
                tier = TIERS.get(event.medium)
                if tier is Tier.DEVICE:
                    touched.update(dict.fromkeys(event.block_hashes))
                elif tier is not None:
                    kind = Stored if isinstance(event, BlockStored) else Removed
                    news += news_of(kind, tier, map(block_key, event.block_hashes))
        is_held: dict[bool, list[int]] = {True: [], False: []}
        for block_hash in touched:
            is_held[self._holds(block_hash)].append(block_key(block_hash))
        news += news_of(Removed, Tier.DEVICE, is_held[False])
        news += news_of(Stored, Tier.DEVICE, is_held[True])
        return tuple(news)

    def _holds(self, block_hash: bytes) -> bool:
        name = make_block_hash_with_group_id(block_hash, self._group)
        return self._pool.cached_block_hash_to_block.get_one_block(name) is not None

    def _send_news(self, news: tuple[News, ...]) -> None:
        if self._has_lost:
            news = (
                Cleared(Tier.DEVICE),
                *(Cleared(tier) for tier in BELOW),
                *news_of(Stored, Tier.DEVICE, self._held()),
            )
        if news:
            self._has_lost = not self._send(Told(news))

    def _send(self, told: Told) -> bool:
        with suppress(zmq.Again):
            self._socket.send(_encoder.encode(told), zmq.NOBLOCK)
            return True
        return False


def dense_group(config: Any) -> int | None:
    """The first group of layers with full attention; None if there is none."""
    groups = enumerate(config.kv_cache_groups)
    return next((i for i, each in groups if is_full_attention_spec(each.kv_cache_spec)), None)


def news_of(
    kind: type[Stored] | type[Removed], tier: Tier, keys: Iterable[int]
) -> Iterator[Stored | Removed]:
    """As many as it takes: one has MAX_KEYS at most."""
    return (kind(tier, pack(part)) for part in parts(keys))


class BlockFeed:
    """In the worker's process. A context manager; the socket is there before the engine is."""

    def __init__(self) -> None:
        self.endpoint = get_open_zmq_ipc_path()
        self.work = Work()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, MAX_MESSAGES)
        self._socket.bind(self.endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=0)
        Path(self.endpoint.removeprefix("ipc://")).unlink(missing_ok=True)

    async def changes(self) -> AsyncIterator[Sequence[BlockChange]]:
        """Endless. Notes the engine's `work` on the way."""
        while True:
            told = _decoder.decode(await self._socket.recv())
            if told.work is not None:
                self.work = msgspec.convert(told.work, Work, strict=False)
            if told.news:
                yield [change_of(each) for each in told.news]


def change_of(news: News) -> BlockChange:
    tier = Tier(news.tier)
    if isinstance(news, Cleared):
        return BlockChange(Kind.CLEARED, tier)
    kind = Kind.STORED if isinstance(news, Stored) else Kind.REMOVED
    return BlockChange(kind, tier, unpack(news.keys).tolist())
