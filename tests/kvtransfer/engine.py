"""A worker without an engine: the real connector half and transfer thread, a cache in memory.

What stands in for vLLM is only the order of the calls and the KV that is "computed".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kvtransfer.connector_orders import Computation, Ended, StepOrders
from kvtransfer.connector_worker import WorkerHalf
from kvtransfer.incoming import LoadOrder
from kvtransfer.layout import KvLayout
from kvtransfer.mover import Finished, Mover, MoverConfig
from kvtransfer.numpy_cache import NumpyPagedCache
from kvtransfer.staging import Slot
from kvtransfer.transport import Transport
from tests.kvtransfer.builders import LAYOUT, eventually

LEASE = 30.0


def kv_of(layout: KvLayout, seed: int, num_tokens: int) -> NDArray[np.uint8]:
    """What the KV of prompt `seed` is: (layers, tokens, bytes of a token in a layer)."""
    token_bytes = layout.num_heads * layout.content_bytes
    shape = (layout.num_layers, num_tokens, token_bytes)
    return np.random.default_rng(seed).integers(1, 256, shape, np.uint8)


class WatchedCache(NumpyPagedCache):
    """Calls `before_copy` before each copy, on the transfer thread."""

    before_copy: Callable[[], None] | None = None

    def pack(self, layer: int, block_ids: Sequence[int], out: Slot) -> None:
        if self.before_copy:
            self.before_copy()
        super().pack(layer, block_ids, out)

    def unpack(self, layer: int, block_ids: Sequence[int], data: Slot) -> None:
        if self.before_copy:
            self.before_copy()
        super().unpack(layer, block_ids, data)

    def tokens(self, block_ids: Sequence[int]) -> NDArray[np.uint8]:
        """The blocks as (layers, tokens, bytes of a token in a layer)."""
        layers = self.layout.num_layers
        tokens = len(block_ids) * self.layout.block_size
        return self.blocks[:, list(block_ids)].reshape(layers, tokens, -1)


class Worker:
    """Ends with its `with` block."""

    def __init__(
        self,
        transport: Transport,
        config: MoverConfig | None = None,
        layout: KvLayout = LAYOUT,
        num_blocks: int = 256,
    ) -> None:
        self.layout = layout
        self.cache = WatchedCache(layout, num_blocks)
        self.mover = Mover(transport, self.cache, config)
        self.address = transport.address
        names = [f"layer.{number}" for number in range(layout.num_layers)]
        self.half = WorkerHalf(self.mover, self.cache, names, rank=0)
        self._finished = Finished([], [], [], [])

    def __enter__(self) -> Worker:
        self.mover.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.half.close()

    def compute(
        self,
        ticket: bytes,
        request_id: str,
        kv: NDArray[np.uint8],
        borders: Sequence[int],
        block_ids: Sequence[int],
        lease_seconds: float = LEASE,
        before_layer: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prefill steps from each of `borders` to the next, as vLLM runs them."""
        for first, end in pairwise(borders):
            blocks = tuple(block_ids[: self.layout.num_blocks(end)])
            step = Computation(request_id, ticket, lease_seconds, blocks, first, end)
            orders = StepOrders(computations=[step])
            self.half.begin(orders)
            for layer in range(self.layout.num_layers):
                before_layer(layer)
                self._write(layer, kv, blocks, first, end)
                self.half.layer_done(orders, f"layer.{layer}")
            self.half.end(orders)

    def end(self, ticket: bytes, request_id: str, is_prefilled: bool = True) -> None:
        self.half.begin(StepOrders(ended=[Ended(request_id, ticket, is_prefilled)]))

    def prefill(
        self,
        ticket: bytes,
        request_id: str,
        kv: NDArray[np.uint8],
        block_ids: Sequence[int],
        lease_seconds: float = LEASE,
    ) -> None:
        """The whole prompt in one step, and the end of the request."""
        self.compute(ticket, request_id, kv, (0, kv.shape[1]), block_ids, lease_seconds)
        self.end(ticket, request_id)

    def load(self, *orders: LoadOrder) -> None:
        self.half.begin(StepOrders(loads=list(orders)))

    def cancel(self, *request_ids: str) -> None:
        self.half.begin(StepOrders(cancelled_loads=list(request_ids)))

    def finished(self) -> Finished:
        """All that has ended since the start."""
        news, old = self.half.take_finished(), self._finished
        self._finished = Finished(
            old.sent + news.sent,
            old.completed + news.completed,
            old.failed + news.failed,
            old.cancelled + news.cancelled,
        )
        return self._finished

    def wait_for(self, *request_ids: str) -> Finished:
        """Returns when each of these has ended, in whatever way."""
        wanted = set(request_ids)
        eventually(lambda: wanted <= {*_all(self.finished())})
        return self._finished

    def wait_until_idle(self) -> None:
        """Nothing is open, and every staging slot is back."""

        def is_idle() -> bool:
            stats = self.mover.stats()
            return not (stats.open_sends or stats.open_loads or stats.staging_bytes)

        eventually(is_idle)

    def _write(
        self, layer: int, kv: NDArray[np.uint8], blocks: Sequence[int], first: int, end: int
    ) -> None:
        size = self.layout.block_size
        view = self.cache.blocks[layer].reshape(len(self.cache.blocks[layer]), size, -1)
        for token in range(first, end):
            view[blocks[token // size], token % size] = kv[layer, token]


def _all(finished: Finished) -> list[str]:
    return finished.sent + finished.completed + finished.failed + finished.cancelled
