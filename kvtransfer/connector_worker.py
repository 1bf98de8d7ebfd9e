"""The worker's half of the connector: feeds the transfer thread from vLLM's hooks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from time import monotonic

from kvtransfer.cache import PagedCache
from kvtransfer.causes import Cause
from kvtransfer.connector_orders import Computation, StepOrders
from kvtransfer.mover import Finished, Mover
from kvtransfer.stats import Transfers

logger = logging.getLogger("vllm.baton.connector")


class WorkerHalf:
    """Lives in an engine rank's process. `layers` are the names of its layers, in their order.

    Its methods run on the engine's thread and only
    post to the transfer thread, but for `preempted`, which waits for a copy under way.
    """

    def __init__(self, mover: Mover, cache: PagedCache, layers: Iterable[str]) -> None:
        self._mover = mover
        self._cache = cache
        self._layers = {name: index for index, name in enumerate(layers)}
        self._first_layer = cache.layout.shard(cache.rank).first_layer
        self._last_stats = Transfers()
        self._unmarked: set[int] = set()  # layers that no hook has covered in this step

    @property
    def mover(self) -> Mover:
        return self._mover

    def preempted(self, orders: StepOrders) -> None:
        if orders.preempted:
            self._mover.forget_blocks(orders.preempted)

    def begin(self, orders: StepOrders) -> None:
        """Before the step's forward pass."""
        sends, dialogue = self._mover.sends, self._mover.dialogue
        for order in orders.loads:
            self._mover.post(partial(dialogue.start_load, order))
        for request_id in orders.cancelled_loads:
            self._mover.post(partial(dialogue.cancel_load, request_id))
        if self._cache.rank == 0:
            for each in orders.declined:
                self._mover.post(
                    partial(
                        self._mover.dialogue.decline, each.ticket, each.load, each.source_addresses
                    )
                )
        for ticket in orders.aborted_sends:
            self._mover.post(partial(sends.revoke, ticket, Cause.ABORTED))
        for ended in orders.ended:
            change = partial(
                sends.request_ended, ended.ticket, ended.request_id, ended.is_prefilled
            )
            self._mover.post(change)
        if orders.computations:
            self._unmarked = set(self._layers.values())
            self._mark_computed(self._unmarked)  # the prefix cache's blocks, of steps before
            self._mover.post(partial(self._open_sends, orders.computations))

    def layer_done(self, orders: StepOrders, layer_name: str) -> None:
        """Within the forward pass, after a layer has written its KV."""
        if orders.computations:
            layer = self._layers[layer_name]
            self._mark_computed([layer])
            self._unmarked.discard(layer)
            self._mover.post(partial(self._layer_computed, layer, orders.computations))

    def end(self, orders: StepOrders) -> None:
        """After the forward pass: sweeps up the layers that no hook has covered."""
        if orders.computations:
            self._mark_computed(self._unmarked)
            self._mover.post(partial(self._all_computed, orders.computations))

    def take_finished(self) -> Finished:
        """What has ended since the last call."""
        return self._mover.take_finished()

    def take_stats(self) -> Transfers | None:
        """What has been moved so far; None if nothing changed since the last call.

        With several ranks always all of it: vLLM adds up what the ranks say at a step.
        """
        stats = self._mover.stats()
        if stats == self._last_stats and self._cache.layout.num_ranks == 1:
            return None
        self._last_stats = stats
        return stats

    def close(self) -> None:
        self._mover.stop()

    def _mark_computed(self, layers: Iterable[int]) -> None:
        """What has been given to the device so far, in these layers."""
        for layer in layers:
            self._cache.mark_computed(layer)

    def _open_sends(self, computations: list[Computation]) -> None:
        now = monotonic()
        sends = self._mover.sends
        for each in computations:
            sends.open(each.ticket, each.request_id, each.lease_seconds, now)
            sends.place(each.request_id, each.block_ids)
            for layer in self._layers.values():
                sends.layer_computed(
                    each.request_id, self._first_layer + layer, each.first_token, now
                )

    def _layer_computed(self, layer: int, computations: list[Computation]) -> None:
        now = monotonic()
        for each in computations:
            self._mover.sends.layer_computed(
                each.request_id, self._first_layer + layer, each.end_token, now
            )

    def _all_computed(self, computations: list[Computation]) -> None:
        for layer in self._layers.values():
            self._layer_computed(layer, computations)
