"""A worker without an engine: the real connector half and transfer thread, a cache in memory.

What stands in for vLLM is only the order of the calls and the KV that is "computed".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from kvtransfer.connector_orders import Computation, Ended, StepOrders
from kvtransfer.connector_worker import WorkerHalf
from kvtransfer.incoming import LoadOrder
from kvtransfer.mover import Finished, Mover
from kvtransfer.mover_config import MoverConfig
from kvtransfer.seal import Seal
from kvtransfer.transport import Transport
from proto.layout import KvLayout
from tests.kvtransfer.builders import LAYOUT, SEAL, eventually
from tests.kvtransfer.paged import Kv, TokenCache

LEASE = 30.0


class Worker:
    """One rank. Ends with its `with` block."""

    def __init__(
        self,
        transport: Transport,
        config: MoverConfig | None = None,
        layout: KvLayout = LAYOUT,
        num_blocks: int = 256,
        rank: int = 0,
        seal: Seal = SEAL,
    ) -> None:
        self.layout = layout
        self.shard = layout.shard(rank)
        self.cache = TokenCache(layout, num_blocks, rank)
        self.mover = Mover(transport, self.cache, seal, config)
        self.address = transport.address
        names = [f"layer.{number}" for number in self.shard.layers]
        self.half = WorkerHalf(self.mover, self.cache, names)
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
        kv: Kv,
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
            for layer in self.shard.layers:
                before_layer(layer)
                self.cache.write(layer, kv, blocks, range(first, end))
                self.half.layer_done(orders, f"layer.{layer}")
            self.half.end(orders)

    def end(self, ticket: bytes, request_id: str, is_prefilled: bool = True) -> None:
        self.half.begin(StepOrders(ended=[Ended(request_id, ticket, is_prefilled)]))

    def prefill(
        self,
        ticket: bytes,
        request_id: str,
        kv: Kv,
        block_ids: Sequence[int],
        lease_seconds: float = LEASE,
    ) -> None:
        """The whole prompt in one step, and the end of the request."""
        self.compute(ticket, request_id, kv, (0, kv.shape[2]), block_ids, lease_seconds)
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

    @property
    def held_bytes(self) -> int:
        """Staging in use, also for the transfer thread itself, which must not ask for `stats`."""
        return sum(pool.held_bytes for pool in self.mover._pools)

    def wait_until_idle(self) -> None:
        """Nothing is open, and every staging slot is back."""

        def is_idle() -> bool:
            stats = self.mover.stats()
            return not (stats.open_sends or stats.open_loads or stats.staging_bytes)

        eventually(is_idle)
        self.mover.sends.check_integrity()
        self.mover.loads.check_integrity()


def _all(finished: Finished) -> list[str]:
    return finished.sent + finished.completed + finished.failed + finished.cancelled
