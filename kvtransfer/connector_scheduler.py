"""The scheduler's half of the connector: decides per request, and orders once a step."""

from __future__ import annotations

import logging
import secrets
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

MAX_LOADS = 256
LOAD_BYTES = 16


class SchedulerHalf:
    """Knows the requests whose KV is to be sent or loaded; touches no network and no tensor.

    At most `max_loads` loads are open; further requests wait in the engine's queue, where they
    hold no blocks.
    """

    def __init__(self, block_size: int, max_loads: int = MAX_LOADS) -> None:
        self._block_size = block_size
        self._max_loads = max_loads
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
            if handoff := from_params(request.kv_transfer_params):
                self._handoffs[request.request_id] = handoff
        except ValueError as error:
            logger.warning("request %s is computed here: %s", request.request_id, error)

    def num_tokens_to_load(self, request: Request, num_computed_tokens: int) -> int | None:
        """None: not now, there are loads enough. The prompt's last token is always computed
        here, to sample from.
        """
        if not isinstance(self._handoffs.get(request.request_id), DecodeHandoff):
            return 0
        if request.skip_reading_prefix_cache:
            return 0
        num_tokens = max(0, request.num_prompt_tokens - 1 - num_computed_tokens)
        return None if num_tokens and len(self._loading) >= self._max_loads else num_tokens

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
            self._decline(handoff)
        if not isinstance(handoff, PrefillHandoff):
            return False
        if self._prefills.pop(request_id, None) is None:
            self._orders.aborted_sends.append(handoff.ticket)
            return False
        is_prefilled = request.num_output_tokens > 0
        self._orders.ended.append(Ended(request_id, handoff.ticket, is_prefilled))
        return True

    def _load(
        self, request: Request, handoff: DecodeHandoff, block_ids: list[int], num_tokens: int
    ) -> None:
        if num_tokens == 0:
            self._decline(handoff)
            return
        first_token = request.num_prompt_tokens - 1 - num_tokens
        first = first_token // self._block_size
        end = -(-(first_token + num_tokens) // self._block_size)
        self._loading.add(request.request_id)
        self._orders.loads.append(
            LoadOrder(
                ticket=handoff.ticket,
                load=secrets.token_bytes(LOAD_BYTES),
                request_id=request.request_id,
                source=handoff.source,
                source_addresses=handoff.source_addresses,
                lease_seconds=handoff.lease_seconds,
                first_token=first_token,
                num_tokens=num_tokens,
                block_ids=tuple(block_ids[first:end]),
            )
        )

    def _decline(self, handoff: DecodeHandoff) -> None:
        load = secrets.token_bytes(LOAD_BYTES)
        self._orders.declined.append(Declined(handoff.ticket, load, handoff.source_addresses))

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
