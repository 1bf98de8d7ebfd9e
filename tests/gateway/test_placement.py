from __future__ import annotations

from gateway.placement import FOREIGN_TOKENS, FleetView, LeastLoaded
from tests.gateway.builders import make_report, make_request, make_worker
from tests.proto.builders import FLOAT_LAYOUT, SMALLER_BLOCKS


def place(fleet: FleetView, can_hand_off: bool = True) -> tuple[str | None, str | None]:
    placement = LeastLoaded().place(make_request(can_hand_off=can_hand_off), fleet)
    if placement is None:
        return None, None
    return placement.decode.key, placement.prefill.key if placement.prefill else None


def test_nobody_can_take_it_without_a_decode_worker() -> None:
    assert place(FleetView(prefill=(make_worker("p"),))) == (None, None)


def test_fewest_tokens_in_flight_wins() -> None:
    decode = (make_worker("d1", num_tokens=50), make_worker("d2", num_tokens=10))
    prefill = (make_worker("p1", num_tokens=5), make_worker("p2", num_tokens=90))
    assert place(FleetView(decode, prefill)) == ("d2", "p1")


def test_what_other_gateways_run_counts() -> None:
    busy = make_worker("d1", report=make_report(num_running=2, num_waiting=1))
    mine = make_worker("d2", num_tokens=FOREIGN_TOKENS, num_legs=1, report=make_report(1))
    assert busy.load_tokens == 3 * FOREIGN_TOKENS
    assert mine.load_tokens == FOREIGN_TOKENS
    assert place(FleetView((busy, mine))) == ("d2", None)


def test_ties_go_by_kv_in_use_and_then_by_name() -> None:
    full = make_worker("d1", report=make_report(num_kv_blocks_used=90))
    free = make_worker("d3", report=make_report(num_kv_blocks_used=1))
    same = make_worker("d2", report=make_report(num_kv_blocks_used=1))
    assert place(FleetView((full, free, same))) == ("d2", None)


def test_what_cannot_profit_is_not_handed_off() -> None:
    fleet = FleetView((make_worker("d"),), (make_worker("p"),))
    assert place(fleet, can_hand_off=False) == ("d", None)


def test_only_workers_whose_kv_fits_are_paired() -> None:
    float_prefill = make_worker("p1", layout=FLOAT_LAYOUT)
    small_prefill = make_worker("p2", num_tokens=900, layout=SMALLER_BLOCKS)
    assert place(FleetView((make_worker("d"),), (float_prefill, small_prefill))) == ("d", "p2")
    assert place(FleetView((make_worker("d"),), (float_prefill,))) == ("d", None)


def test_only_workers_that_move_kv_alike_are_paired() -> None:
    nixl_prefill = make_worker("p1", kv_connector="nixl")
    baton_prefill = make_worker("p2", num_tokens=900)
    assert place(FleetView((make_worker("d"),), (nixl_prefill, baton_prefill))) == ("d", "p2")
    nixl_decode = make_worker("d", kv_connector="nixl")
    assert place(FleetView((nixl_decode,), (nixl_prefill, baton_prefill))) == ("d", "p1")


def test_nixl_moves_kv_between_equal_layouts_only() -> None:
    odd = make_worker("p", layout=SMALLER_BLOCKS, kv_connector="nixl")
    assert place(FleetView((make_worker("d", kv_connector="nixl"),), (odd,))) == ("d", None)


def test_a_view_without_a_worker_has_those_that_fit_the_source() -> None:
    odd = make_worker("d3", layout=FLOAT_LAYOUT)
    fleet = FleetView((make_worker("d1"), make_worker("d2"), odd), (make_worker("p"),))
    assert [w.key for w in fleet.without("d1").decode] == ["d2", "d3"]
    assert [w.key for w in fleet.without("d1", source="p").decode] == ["d2"]
    assert [w.key for w in fleet.without("d1", source="gone").decode] == ["d2", "d3"]


def test_a_worker_does_not_hand_off_to_itself() -> None:
    both = make_worker("both")
    assert place(FleetView((both,), (both,))) == ("both", None)
