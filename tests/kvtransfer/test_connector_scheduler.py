from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from kvtransfer.connector_orders import Computation, Ended, StepOrders
from kvtransfer.connector_scheduler import MAX_LOADS, SchedulerHalf
from kvtransfer.handoff import DecodeHandoff, PrefillHandoff, to_params
from kvtransfer.incoming import LoadOrder
from tests.kvtransfer.builders import make_ticket

BLOCK = 4
PREFILL = to_params(PrefillHandoff(make_ticket(), 30.0))
DECODE = to_params(DecodeHandoff(make_ticket(), 30.0, "p/1", (b"rank-0",)))
DECLINED = (make_ticket(), (b"rank-0",))


@dataclass
class Request:
    """What the connector reads of vLLM's."""

    kv_transfer_params: Any = None
    request_id: str = "r1"
    num_prompt_tokens: int = 10
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    skip_reading_prefix_cache: bool = False


@dataclass
class Step:
    """What the connector reads of vLLM's SchedulerOutput."""

    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    preempted_req_ids: set[str] | None = None


@dataclass
class Blocks:
    """What the connector reads of vLLM's KVCacheManager: a single group's blocks."""

    ids: dict[str, list[int]] = field(default_factory=dict)

    def get_block_ids(self, request_id: str) -> tuple[list[int]]:
        return (self.ids[request_id],)


def make_half(max_loads: int = MAX_LOADS, **blocks: list[int]) -> SchedulerHalf:
    half = SchedulerHalf(BLOCK, max_loads)
    half.bind(Blocks(blocks))
    return half


def schedule(half: SchedulerHalf, **num_tokens: int) -> StepOrders:
    return half.step(Step(num_tokens))


def declined(half: SchedulerHalf) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """Tickets and the addresses of their sources; each under a load of its own."""
    orders = schedule(half).declined
    assert len({each.load for each in orders}) == len(orders)
    return [(each.ticket, each.source_addresses) for each in orders]


def start_load(half: SchedulerHalf, request: Request, num_cached: int = 0) -> int:
    """As the scheduler does when it first looks at a request. The number of tokens to load."""
    half.new_request(request)
    num_tokens = half.num_tokens_to_load(request, num_cached)
    assert num_tokens is not None
    half.allocated(request, list(range(20, 30)), num_tokens)
    return num_tokens


def test_a_request_without_a_handoff_is_left_alone() -> None:
    half, request = make_half(), Request()
    assert start_load(half, request) == 0
    assert schedule(half, r1=10) == StepOrders()
    assert not half.finished(request)
    assert schedule(half) == StepOrders()


def test_a_decode_leg_loads_all_but_the_last_token() -> None:
    half = make_half()
    assert start_load(half, Request(DECODE)) == 9
    (order,) = schedule(half).loads
    assert order == LoadOrder(
        make_ticket(), order.load, "r1", "p/1", (b"rank-0",), 30.0, 0, 9, (20, 21, 22)
    )
    assert len(order.load) == 16
    assert schedule(half) == StepOrders()


@pytest.mark.parametrize(
    ("num_prompt_tokens", "num_cached", "num_tokens", "block_ids"),
    [
        pytest.param(9, 0, 8, (20, 21), id="exact-blocks"),
        pytest.param(10, 0, 9, (20, 21, 22), id="one-more"),
        pytest.param(10, 4, 5, (21, 22), id="prefix-cached"),
        pytest.param(10, 8, 1, (22,), id="one-token-left"),
        pytest.param(2, 0, 1, (20,), id="two-tokens"),
    ],
)
def test_only_what_is_missing_is_loaded(
    num_prompt_tokens: int, num_cached: int, num_tokens: int, block_ids: tuple[int, ...]
) -> None:
    half = make_half()
    request = Request(DECODE, num_prompt_tokens=num_prompt_tokens)
    assert start_load(half, request, num_cached) == num_tokens
    (order,) = schedule(half).loads
    assert (order.first_token, order.num_tokens) == (num_cached, num_tokens)
    assert order.block_ids == block_ids


@pytest.mark.parametrize(
    ("request_", "num_cached"),
    [
        pytest.param(Request(DECODE, num_prompt_tokens=9), 8, id="all-cached"),
        pytest.param(Request(DECODE, num_prompt_tokens=1), 0, id="one-token"),
        pytest.param(Request(DECODE, skip_reading_prefix_cache=True), 0, id="prompt-logprobs"),
    ],
)
def test_a_ticket_that_is_not_needed_is_declined(request_: Request, num_cached: int) -> None:
    half = make_half()
    assert start_load(half, request_, num_cached) == 0
    assert declined(half) == [DECLINED]
    assert not half.finished(request_)
    assert schedule(half) == StepOrders()


def test_a_handoff_is_used_once() -> None:
    """After a failed load, or a preemption, the scheduler asks again."""
    half, request = make_half(), Request(DECODE)
    start_load(half, request)
    schedule(half)
    half.loads_ended(["r1"])
    assert half.num_tokens_to_load(request, 0) == 0
    half.allocated(request, [7, 8, 9], 0)
    assert schedule(half) == StepOrders()


def test_a_decode_leg_that_ends_before_it_has_blocks_declines() -> None:
    half, request = make_half(), Request(DECODE)
    half.new_request(request)
    assert half.num_tokens_to_load(request, 0) == 9
    assert not half.finished(request)
    assert declined(half) == [DECLINED]


def test_a_decode_leg_that_ends_while_it_loads_cancels() -> None:
    half, request = make_half(), Request(DECODE)
    start_load(half, request)
    assert not half.finished(request)
    orders = schedule(half)
    assert [order.request_id for order in orders.loads] == ["r1"]
    assert orders.cancelled_loads == ["r1"]
    assert orders.declined == []


def test_a_decode_leg_that_ends_after_its_load_leaves_no_orders() -> None:
    half, request = make_half(), Request(DECODE)
    start_load(half, request)
    schedule(half)
    half.loads_ended(["r1"])
    assert not half.finished(request)
    assert schedule(half) == StepOrders()


def test_a_prefill_leg_is_computed_in_chunks() -> None:
    half, request = make_half(r1=[5, 6, 7]), Request(PREFILL)
    half.new_request(request)
    assert half.num_tokens_to_load(request, 0) == 0
    half.allocated(request, [5, 6], 0)
    ticket = make_ticket()
    assert schedule(half, r1=6).computations == [
        Computation("r1", ticket, 30.0, (5, 6, 7), first_token=0, end_token=6)
    ]
    request.num_computed_tokens = 6
    assert schedule(half, other=3, r1=4).computations == [
        Computation("r1", ticket, 30.0, (5, 6, 7), first_token=6, end_token=10)
    ]
    assert schedule(half, other=3).computations == []


@pytest.mark.parametrize("num_output_tokens", [0, 1])
def test_a_prefill_leg_keeps_its_blocks_when_it_ends(num_output_tokens: int) -> None:
    half = make_half(r1=[5, 6, 7])
    request = Request(PREFILL, num_output_tokens=num_output_tokens)
    half.new_request(request)
    half.allocated(request, [5, 6, 7], 0)
    schedule(half, r1=10)
    assert half.finished(request)
    orders = schedule(half)
    assert orders.ended == [Ended("r1", make_ticket(), is_prefilled=num_output_tokens > 0)]
    assert orders.computations == []


def test_a_prefill_leg_that_never_had_blocks_is_only_aborted() -> None:
    half, request = make_half(), Request(PREFILL)
    half.new_request(request)
    assert not half.finished(request)
    orders = schedule(half)
    assert (orders.aborted_sends, orders.ended) == ([make_ticket()], [])


def test_preempted_requests_are_named() -> None:
    half = make_half()
    assert half.step(Step(preempted_req_ids={"r1"})).preempted == ["r1"]
    assert half.step(Step(preempted_req_ids=None)).preempted == []


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"leg": "decode"}, id="bare"),
        pytest.param({**DECODE, "ticket": b"short"}, id="short-ticket"),
        pytest.param({**DECODE, "ticket": "AAAAAAAAAAAAAAAAAAAAAA=="}, id="ticket-as-text"),
        pytest.param({**DECODE, "lease_seconds": float("nan")}, id="lease-nan"),
        pytest.param({**PREFILL, "leg": ["prefill"]}, id="leg-a-list"),
        pytest.param({**DECODE, "source_addresses": []}, id="no-ranks"),
        pytest.param(["leg"], id="a-list"),
        pytest.param("leg", id="a-text"),
        pytest.param(7, id="a-number"),
    ],
)
def test_a_malformed_handoff_is_computed_as_if_it_had_none(
    params: Any, caplog: pytest.LogCaptureFixture
) -> None:
    half, request = make_half(r1=[5, 6, 7]), Request(params)
    assert start_load(half, request) == 0
    assert "request r1 is computed here" in caplog.text
    assert schedule(half, r1=10) == StepOrders()
    assert not half.finished(request)
    assert schedule(half) == StepOrders()


def test_a_load_comes_from_every_rank_of_its_source() -> None:
    """Whatever the number of ranks here."""
    addresses = (b"rank-0", b"rank-1", b"rank-2")
    half = make_half()
    assert start_load(half, Request({**DECODE, "source_addresses": addresses})) == 9
    (order,) = schedule(half).loads
    assert order.source_addresses == addresses


def test_every_load_has_a_number_of_its_own() -> None:
    half = make_half()
    for name in ("r1", "r2"):
        start_load(half, Request(DECODE, request_id=name))
    one, two = schedule(half).loads
    assert one.load != two.load


def test_beyond_so_many_loads_a_request_waits_without_blocks() -> None:
    half = make_half(max_loads=2)
    for name in ("r1", "r2"):
        start_load(half, Request(DECODE, request_id=name))
    third = Request(DECODE, request_id="r3")
    half.new_request(third)
    for _ in range(3):
        assert half.num_tokens_to_load(third, 0) is None
    assert half.num_tokens_to_load(third, 8) is None
    assert half.num_tokens_to_load(third, 9) == 0
    schedule(half)
    half.loads_ended(["r1"])
    assert half.num_tokens_to_load(third, 0) == 9
    half.allocated(third, [4, 5, 6], 9)
    assert [order.request_id for order in schedule(half).loads] == ["r3"]


def test_who_has_nothing_to_load_waits_for_nobody() -> None:
    half = make_half(max_loads=0)
    for request in (Request(), Request(PREFILL, request_id="r2")):
        half.new_request(request)
        assert half.num_tokens_to_load(request, 0) == 0


def test_a_cancelled_load_makes_room_when_it_has_ended() -> None:
    """Until then its blocks may still be written to."""
    half = make_half(max_loads=1)
    first, second = Request(DECODE), Request(DECODE, request_id="r2")
    start_load(half, first)
    half.finished(first)
    half.new_request(second)
    assert half.num_tokens_to_load(second, 0) is None
    half.loads_ended(["r1"])
    assert half.num_tokens_to_load(second, 0) == 9
