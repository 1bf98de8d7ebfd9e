from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.booked import Booked
from gateway.routing.fleet_table import LEAST_PIECE_TOKENS, FleetTable
from gateway.worker_ledger import Booking, WorkerLedger
from proto import worker_pb2
from tests.gateway.builders import Fleet, make_report, make_worker
from tests.gateway.routing.builders import by_key, told
from tests.proto.builders import FLOAT_LAYOUT, SMALLER_BLOCKS


def usable(table: FleetTable) -> tuple[set[str], set[str]]:
    columns = table.columns
    return (
        {key for key, row in table.rows.items() if columns.can_prefill[row]},
        {key for key, row in table.rows.items() if columns.can_decode[row]},
    )


def with_partner(table: FleetTable) -> set[str]:
    has_partner = table.has_partner() & table.columns.can_prefill
    return {key for key, row in table.rows.items() if has_partner[row]}


def partners(table: FleetTable, source: str) -> set[str]:
    fits = table.fits(table.rows[source]) & table.columns.can_decode
    return {key for key, row in table.rows.items() if fits[row]}


def reserved(num_tokens: int, num_running: int = 1) -> worker_pb2.LoadReport:
    report = make_report(num_running=num_running)
    report.num_reserved_tokens = num_tokens
    return report


def test_who_is_not_usable_stays_with_its_state_but_gets_nothing() -> None:
    table = FleetTable()
    worker = make_worker("d1", can_decode=True)
    table.put(worker, is_usable=True)
    table.book("d1", Booked(num_legs=2), 0.0)
    table.put(worker, is_usable=False)
    assert usable(table) == (set(), set())
    assert table.columns.num_legs[table.rows["d1"]] == 2
    table.check_integrity()


def test_a_new_worker_gets_the_row_of_one_that_is_gone_and_nothing_else_of_it() -> None:
    fleet = Fleet("d1 d2", "")
    table = fleet.table
    row = table.rows["d1"]
    told(table, "d1", token_seconds=1.0, step_seconds=9.0, report=reserved(50, num_running=7))
    table.book("d1", Booked(1, 1, 1, 100, 5.0, 100), 0.0)
    table.queue(row, 3, 4.0)
    table.remove("d1")
    assert "d1" not in table.rows
    fleet.put(make_worker("p9", can_prefill=True))
    assert table.rows["p9"] == row
    assert table.keys[row] == "p9"
    assert table.report_of(row) is None
    columns = table.columns
    assert not columns.can_decode[row]
    for name in ("num_legs", "num_foreign", "kv_booked", "kv_foreign", "num_queued", "busy_until"):
        assert getattr(columns, name)[row] == 0, name
    assert table.wait_seconds(0.0)[row] == 0
    table.check_integrity()


def test_it_grows_and_keeps_what_it_has() -> None:
    fleet = Fleet("d1", "")
    fleet.table.book("d1", Booked(num_legs=5), 0.0)
    for number in range(100):
        fleet.put(make_worker(f"p{number}", can_prefill=True))
    assert len(fleet.table.rows) == 101
    assert fleet.table.columns.num_legs[fleet.table.rows["d1"]] == 5
    assert repr(fleet.table) == "<FleetTable 100 prefill, 1 decode>"
    fleet.table.check_integrity()


def test_who_is_unknown_is_passed_over() -> None:
    table = FleetTable()
    table.report("gone", make_report(), 0.0)
    table.book("gone", Booked(num_legs=1), 0.0)
    table.note_full("gone")
    table.remove("gone")
    assert not table.rows
    assert not table.has_partner().any()
    table.check_integrity()


def test_block_sizes_are_told_once_each() -> None:
    fleet = Fleet("d1 d2", "p1", {"d2": SMALLER_BLOCKS})
    assert fleet.table.block_sizes() == [8, 16]
    fleet.table.remove("d2")
    assert fleet.table.block_sizes() == [16]


def test_kv_goes_to_those_whose_layout_it_can_be_converted_to() -> None:
    table = Fleet("d1 d2 d3", "p1 p2", {"d2": SMALLER_BLOCKS, "d3": FLOAT_LAYOUT}).table
    assert partners(table, "p1") == {"d1", "d2"}
    assert with_partner(table) == {"p1", "p2"}


def test_who_fits_nobody_that_is_usable_has_no_partner() -> None:
    fleet = Fleet("d1 d2", "p1 p2", {"d2": FLOAT_LAYOUT, "p2": FLOAT_LAYOUT})
    assert with_partner(fleet.table) == {"p1", "p2"}
    fleet.lose("d2")
    assert with_partner(fleet.table) == {"p1"}
    fleet.find()
    assert with_partner(fleet.table) == {"p1", "p2"}


def test_by_nixl_only_equal_layouts_fit_and_only_those_with_nixl() -> None:
    table = FleetTable()
    for key, layout, connector in (
        ("same", make_worker("x").layout, "nixl"),
        ("smaller", SMALLER_BLOCKS, "nixl"),
        ("ours", make_worker("x").layout, "baton"),
    ):
        table.put(make_worker(key, layout, connector, can_decode=True), is_usable=True)
    table.put(make_worker("p1", kv_connector="nixl", can_prefill=True), is_usable=True)
    table.put(make_worker("p2", can_prefill=True), is_usable=True)
    assert partners(table, "p1") == {"same"}
    assert partners(table, "p2") == {"ours"}


def test_nobody_is_a_partner_of_its_own() -> None:
    table = FleetTable()
    table.put(make_worker("both", can_prefill=True, can_decode=True), is_usable=True)
    assert with_partner(table) == set()
    table.put(make_worker("d1", can_decode=True), is_usable=True)
    assert with_partner(table) == {"both"}


def test_what_was_handed_out_is_computed_as_time_goes_by() -> None:
    table = Fleet("", "p1").table
    row = table.rows["p1"]
    table.book("p1", Booked(1, 1, 1, 100, 2.0), 0.0)
    waits = [float(table.wait_seconds(now)[row]) for now in (0.0, 1.5, 5.0)]
    # Of what takes longer than predicted, a tenth is always left.
    assert waits == [2.0, 0.5, pytest.approx(0.2)]


def test_what_is_added_later_comes_on_top() -> None:
    table = Fleet("", "p1").table
    row = table.rows["p1"]
    table.book("p1", Booked(1, 1, 1, 100, 2.0), 0.0)
    table.book("p1", Booked(2, 2, 2, 200, 4.0), 1.0)
    assert table.wait_seconds(1.0)[row] == pytest.approx(3.0)
    table.book("p1", Booked(1, 1, 1, 100, 2.0), 2.0)
    assert table.wait_seconds(2.0)[row] == pytest.approx(2.0)
    table.book("p1", Booked(), 2.5)
    assert table.wait_seconds(2.5)[row] == 0
    table.book("p1", Booked(1, 1, 1, 100, 1.0), 60.0)
    assert table.wait_seconds(60.0)[row] == pytest.approx(1.0)


def test_a_new_worker_is_taken_to_be_as_fast_as_the_others() -> None:
    fleet = Fleet("d1", "p1")
    told(fleet.table, "d1", token_seconds=0.002, step_seconds=0.5)
    told(fleet.table, "p1", token_seconds=0.002)
    fleet.put(make_worker("p2", can_prefill=True))
    seconds = by_key(fleet.table, fleet.table.prefill_seconds(np.full(8, 1000.0)))
    assert seconds["p2"] == pytest.approx(seconds["p1"], rel=0.1)
    assert seconds["p2"] == pytest.approx(2.0, rel=0.1)


def test_every_worker_has_rates_before_anybody_has_told() -> None:
    table = Fleet("d1", "p1").table
    assert all(value > 0 for value in by_key(table, table.prefill_seconds(np.ones(8))).values())
    assert all(value > 0 for value in by_key(table, table.step_seconds(np.ones(8))).values())


def test_what_others_have_there_is_what_is_reported_beyond_ours() -> None:
    table = Fleet("d1", "").table
    row = table.rows["d1"]
    table.book("d1", Booked(num_legs=2, kv_tokens=100), 0.0)
    table.report("d1", reserved(350, num_running=5), 0.0)
    assert table.columns.num_foreign[row] == 3
    assert table.columns.kv_foreign[row] == 250
    assert table.kv_free_tokens()[row] == (1 << 20) - 350


def test_room_that_is_booked_is_gone_though_others_have_some_as_well() -> None:
    table = Fleet("d1", "").table
    row = table.rows["d1"]
    table.report("d1", reserved(1000), 0.0)
    table.book("d1", Booked(num_legs=1, kv_tokens=500), 1.0)
    assert table.kv_free_tokens()[row] == (1 << 20) - 1500


def test_room_of_a_request_that_has_ended_is_free_at_once() -> None:
    table = Fleet("d1", "").table
    row = table.rows["d1"]
    table.book("d1", Booked(num_legs=1, kv_tokens=500), 0.0)
    table.report("d1", reserved(500), 0.0)
    table.book("d1", Booked(), 1.0)
    assert table.kv_free_tokens()[row] == 1 << 20
    assert table.columns.num_foreign[row] == 0


def test_a_full_worker_is_full_until_it_says_otherwise() -> None:
    table = Fleet("d1", "").table
    row = table.rows["d1"]
    table.report("d1", reserved(100), 0.0)
    table.book("d1", Booked(num_legs=1, kv_tokens=100), 0.0)
    table.note_full("d1")
    table.book("d1", Booked(), 1.0)
    assert table.kv_free_tokens()[row] <= 0
    assert table.columns.num_foreign[row] > 0
    table.report("d1", reserved(0, num_running=0), 2.0)
    assert table.kv_free_tokens()[row] == 1 << 20
    assert table.columns.num_foreign[row] == 0


keys = st.sampled_from([f"w{n}" for n in range(20)])
steps = st.tuples(st.sampled_from(["put", "lose", "remove", "book", "report"]), keys)


@given(st.lists(steps, max_size=80))
def test_rows_and_keys_match_whoever_comes_and_goes(history: list[tuple[str, str]]) -> None:
    table = FleetTable()
    there: dict[str, tuple[bool, int]] = {}
    for number, (what, key) in enumerate(history):
        worker = make_worker(key, can_prefill=number % 2 == 0, can_decode=number % 2 == 1)
        if what in ("put", "lose"):
            table.put(worker, is_usable=what == "put")
            there[key] = what == "put", there.get(key, (False, 0))[1]
        elif what == "remove":
            table.remove(key)
            there.pop(key, None)
        elif what == "book":
            table.book(key, Booked(num_legs=number), 0.0)
            if key in there:
                there[key] = there[key][0], number
        else:
            table.report(key, make_report(), 0.0)
        table.check_integrity()
        assert table.rows.keys() == there.keys()
        assert len(set(table.rows.values())) == len(there)
        legs = by_key(table, table.columns.num_legs)
        assert legs == {each: legs for each, (_, legs) in there.items()}
    prefill, decode = usable(table)
    assert prefill | decode <= {key for key, (is_usable, _) in there.items() if is_usable}


legs = st.tuples(
    st.sampled_from(["d1", "d2", "p1"]),
    st.sampled_from("abcde"),
    st.integers(0, 1000),
    st.floats(0, 10),
    st.integers(0, 1000),
)


@given(st.lists(legs, max_size=60))
def test_the_columns_are_the_sums_of_what_is_open(
    history: list[tuple[str, str, int, float, int]],
) -> None:
    table, ledger = Fleet("d1 d2", "p1").table, WorkerLedger()
    is_open: dict[tuple[str, str], Booking] = {}
    for now, (worker, leg, tokens, seconds, kv_tokens) in enumerate(history):
        before = is_open.pop((worker, leg), None)
        after = None if before else Booking(worker, leg, tokens, seconds, kv_tokens, True)
        for each in ledger.move([before] if before else [], [after] if after else []):
            table.book(each, ledger.booked(each), float(now))
        if after:
            is_open[worker, leg] = after
        ledger.check_integrity()
    for worker, row in table.rows.items():
        there = [each for each in is_open.values() if each.worker == worker]
        columns = table.columns
        assert columns.num_legs[row] == columns.num_starting[row] == len(there)
        assert columns.num_prefills[row] == sum(bool(each.prefill_tokens) for each in there)
        assert columns.prefill_tokens[row] == sum(each.prefill_tokens for each in there)
        assert columns.kv_booked[row] == sum(each.kv_tokens for each in there)
        seconds = sum(each.prefill_seconds for each in there)
        assert columns.prefill_seconds[row] == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("goal", "piece"), [(0.0, 512), (0.2, 190), (0.001, LEAST_PIECE_TOKENS), (9.0, 512)]
)
def test_beside_answers_a_step_takes_of_prompts_what_its_goal_leaves(
    goal: float, piece: float
) -> None:
    table = FleetTable()
    facts = replace(make_worker("d1", can_decode=True), itl_goal_seconds=goal)
    table.put(facts, is_usable=True)
    told(table, "d1", token_seconds=0.001)
    row = table.rows["d1"]
    found = table.piece_tokens(np.full(len(table.keys), 0.01))
    assert found[row] == pytest.approx(piece, rel=0.05)
