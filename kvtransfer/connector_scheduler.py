"""The scheduler's half of the connector: decides per request, and orders once a step."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvtransfer.connector_orders import Computation, Declined, Ended, StepOrders
from kvtransfer.handoff import DecodeHandoff, Handoff, PrefillHandoff, from_params
from kvtransfer.incoming import LoadOrder

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

logger = logging.getLogger("vllm.baton.connector")


class SchedulerHalf:
    """Knows the requests whose KV is to be sent or loaded; touches no network and no tensor."""

    def __init__(self, block_size: int, num_ranks: int) -> None:
        self._block_size = block_size
        self._num_ranks = num_ranks
        self._kv_cache_manager: KVCacheManager | None = None
        self._handoffs: dict[str, Handoff] = {}
        self._prefills: dict[str, Request] = {}
        self._loading: set[str] = set()
        self._orders = StepOrders()

    def bind(self, kv_cache_manager: KVCacheManager) -> None:
        self._kv_cache_manager = kv_cache_manager

    def new_request(self, request: Request) -> None:
        """Takes note of its hand-off. It is used once: after a failed load, or a preemption,
        the engine recomputes. Raises nothing, for that would end the engine: with a malformed
        hand-off the request is computed as one without.
        """
        try:
            if handoff := self._handoff(request):
                self._handoffs[request.request_id] = handoff
        except ValueError as error:
            logger.warning("request %s is computed here: %s", request.request_id, error)

    def num_tokens_to_load(self, request: Request, num_computed_tokens: int) -> int:
        """The prompt's last token is always computed here, to sample from."""
        if not isinstance(self._handoffs.get(request.request_id), DecodeHandoff):
            return 0
        if request.skip_reading_prefix_cache:
            return 0
        return max(0, request.num_prompt_tokens - 1 - num_computed_tokens)

    def allocated(self, request: Request, block_ids: list[int], num_to_load: int) -> None:
        """The request has its blocks. A load of `num_to_load` tokens starts, if any."""
        handoff = self._handoffs.get(request.request_id)
        if isinstance(handoff, PrefillHandoff):
            self._prefills[request.request_id] = request
        elif isinstance(handoff, DecodeHandoff):
            del self._handoffs[request.request_id]
            self._load(request, handoff, block_ids, num_to_load)

    def step(self, scheduled: SchedulerOutput) -> StepOrders:
        """The orders for this step; the next step starts with none."""
        orders, self._orders = self._orders, StepOrders()
        orders.preempted = list(scheduled.preempted_req_ids or ())
        for request_id, num_tokens in scheduled.num_scheduled_tokens.items():
            if request := self._prefills.get(request_id):
                orders.computations.append(self._computation(request, num_tokens))
        return orders

    def loads_ended(self, request_ids: Iterable[str]) -> None:
        self._loading.difference_update(request_ids)

    def finished(self, request: Request) -> bool:
        """The request has ended, well or not. True if its blocks must be kept for the send."""
        request_id = request.request_id
        handoff = self._handoffs.pop(request_id, None)
        if request_id in self._loading:
            self._orders.cancelled_loads.append(request_id)
        if isinstance(handoff, DecodeHandoff):
            self._orders.declined.append(Declined(handoff.ticket, handoff.source_addresses))
        if not isinstance(handoff, PrefillHandoff):
            return False
        if self._prefills.pop(request_id, None) is None:
            self._orders.aborted_sends.append(handoff.ticket)
            return False
        is_prefilled = request.num_output_tokens > 0
        self._orders.ended.append(Ended(request_id, handoff.ticket, is_prefilled))
        return True

    def _handoff(self, request: Request) -> Handoff | None:
        """Raises ValueError for one that cannot be used here."""
        handoff = from_params(request.kv_transfer_params)
        if isinstance(handoff, DecodeHandoff) and len(handoff.source_addresses) != self._num_ranks:
            raise ValueError(
                f"{len(handoff.source_addresses)} source addresses for {self._num_ranks} ranks"
            )
        return handoff

    def _load(
        self, request: Request, handoff: DecodeHandoff, block_ids: list[int], num_tokens: int
    ) -> None:
        if num_tokens == 0:
            self._orders.declined.append(Declined(handoff.ticket, handoff.source_addresses))
            return
        first_token = request.num_prompt_tokens - 1 - num_tokens
        first = first_token // self._block_size
        end = -(-(first_token + num_tokens) // self._block_size)
        self._loading.add(request.request_id)
        self._orders.loads.append(
            LoadOrder(
                ticket=handoff.ticket,
                request_id=request.request_id,
                source=handoff.source,
                source_addresses=handoff.source_addresses,
                lease_seconds=handoff.lease_seconds,
                first_token=first_token,
                num_tokens=num_tokens,
                block_ids=tuple(block_ids[first:end]),
            )
        )

    def _computation(self, request: Request, num_tokens: int) -> Computation:
        assert self._kv_cache_manager is not None
        handoff = self._handoffs[request.request_id]
        (block_ids,) = self._kv_cache_manager.get_block_ids(request.request_id)
        return Computation(
            request_id=request.request_id,
            ticket=handoff.ticket,
            lease_seconds=handoff.lease_seconds,
            block_ids=tuple(block_ids),
            first_token=request.num_computed_tokens,
            end_token=request.num_computed_tokens + num_tokens,
        )
