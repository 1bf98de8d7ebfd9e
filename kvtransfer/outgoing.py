"""One ticket on the prefill side: which of its tokens are computed, and who gets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kvtransfer.causes import Cause
from kvtransfer.delivery import Delivery
from kvtransfer.errors import DemandRefused
from kvtransfer.messages import Demand
from proto.layout import Shard


@dataclass(slots=True)
class Outgoing:
    """State of one hand-off from this rank.

    `computed[l]` tokens of layer l lie in the paged cache; `deliveries` are by the receiver's
    rank, all of one `load`; `is_ended` says that the engine has ended the request and only
    keeps its blocks.
    """

    ticket: bytes
    request_id: str
    shard: Shard
    lease_seconds: float
    deadline: float
    block_ids: tuple[int, ...] = ()
    computed: dict[int, int] = field(default_factory=dict)
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    load: bytes | None = None
    computed_at: float = 0.0
    is_ended: bool = False

    def __post_init__(self) -> None:
        self.forget_blocks()

    @property
    def is_complete(self) -> bool:
        """Every rank of the receiver has all that it asked for."""
        if not self.deliveries or len(self.deliveries) < self._num_receivers:
            return False
        return all(delivery.is_complete for delivery in self.deliveries.values())

    @property
    def sent_bytes(self) -> int:
        return sum(delivery.sent_bytes for delivery in self.deliveries.values())

    def answer(self, delivery: Delivery) -> None:
        """Takes a demand; what is already computed becomes sendable.

        Raises DemandRefused if another load has used the ticket, or this rank has.
        """
        demand = delivery.demand
        if self.load is not None and self.load != demand.load:
            raise DemandRefused(Cause.FOREIGN, "another load has the ticket")
        if demand.rank in self.deliveries:
            raise DemandRefused(Cause.USED, f"rank {demand.rank} has asked already")
        self.load = demand.load
        self.deliveries[demand.rank] = delivery

    def has_answered(self, demand: Demand) -> bool:
        """This very demand."""
        delivery = self.deliveries.get(demand.rank)
        return delivery is not None and delivery.demand == demand

    def layer_computed(self, layer: int, num_tokens: int, now: float) -> None:
        """Tokens up to `num_tokens` of `layer` are in the cache."""
        if num_tokens <= self.computed[layer]:
            return
        self.computed[layer] = num_tokens
        self.computed_at = now
        for delivery in self.deliveries.values():
            delivery.has_news(layer)

    def forget_blocks(self) -> None:
        """The engine took the blocks back (preemption); the prompt is computed again."""
        self.block_ids = ()
        self.computed = dict.fromkeys(self.shard.layers, 0)
        for delivery in self.deliveries.values():
            delivery.forget_news()

    def goes_to(self, reply_address: bytes) -> bool:
        return any(each == reply_address for each in self._reply_addresses())

    def _reply_addresses(self) -> Iterator[bytes]:
        return (delivery.demand.reply_address for delivery in self.deliveries.values())

    @property
    def _num_receivers(self) -> int:
        return next(iter(self.deliveries.values())).target.num_ranks
