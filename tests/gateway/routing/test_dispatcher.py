from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.block_replica import BlockReplica
from fleet.prefix_index import PrefixIndex
from gateway.routing.binder import PATIENCE_SECONDS
from gateway.routing.booked import Booked
from gateway.routing.decider import Mode
from gateway.routing.fleet_table import FleetTable
from gateway.routing.prompt_hits import PromptHits
from gateway.routing.room import AHEAD_SECONDS
from gateway.routing.way import Way
from tests.gateway.builders import make_report, make_worker
from tests.gateway.routing.builders import Desk, make_fleet, make_prompt, told
from tests.proto.builders import FLOAT_LAYOUT

LONG, SHORT = 100_000, 200


def test_an_idle_fleet_begins_at_once() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    assert desk.add(make_prompt("a", 1000))
    assert desk.begin() == {"a": "p1>d1"}
    placement = desk.placements["a"]
    assert placement.num_tokens == 1000
    assert placement.seconds == pytest.approx(1.0, rel=0.05)
    assert placement.kv_tokens == 1024
    assert repr(desk.dispatcher.lanes) == "<Lanes 0 waiting for 0 workers>"


def test_who_cannot_be_taken_by_anybody_is_not_queued() -> None:
    desk = Desk(make_fleet(kv_tokens=999))
    assert not desk.add(make_prompt("a", 1000))
    assert not Desk(make_fleet("", "p1")).add(make_prompt("a", 1))
    assert desk.begin() == {}


def test_a_worker_is_handed_only_what_it_can_start() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    for name in ("a", "b"):
        desk.add(make_prompt(name, 2000))
    assert desk.begin() == {"a": "p1>d1"}
    assert desk.begin(1.0) == {}
    desk.streams("a", 1.5)
    assert desk.begin(1.5) == {"b": "p1>d1"}


def test_the_next_prompt_is_there_a_little_before_the_last_one_is_computed() -> None:
    table = make_fleet()
    told(table, "p1", token_seconds=0.0001)
    desk = Desk(table, Mode.ALWAYS)
    for name in ("a", "b"):
        desk.add(make_prompt(name, 2000))
    desk.begin()
    almost = desk.placements["a"].seconds - AHEAD_SECONDS
    assert desk.begin(almost - 0.01) == {}
    assert desk.begin(almost + 0.01) == {"b": "p1>d1"}


def test_short_prompts_of_one_step_begin_together() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    for name in "abcd":
        desk.add(make_prompt(name, 100))
    assert set(desk.begin()) == set("abcd")


def test_a_short_prompt_goes_beside_a_long_one() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    desk.add(make_prompt("long", LONG))
    desk.begin()
    desk.add(make_prompt("short", SHORT), 1.0)
    assert desk.begin(1.0) == {"short": "p1>d1"}


def test_a_short_prompt_overtakes_long_ones_that_wait() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    for number in range(3):
        desk.add(make_prompt(f"long-{number}", LONG))
    desk.begin()
    desk.add(make_prompt("short", SHORT), 5.0)
    assert desk.begin(5.0) == {"short": "p1>d1"}


def test_a_long_prompt_is_not_overtaken_for_ever() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    desk.add(make_prompt("first", 2000))
    desk.begin()
    desk.add(make_prompt("long", 5000))
    now, number = 0.0, 0
    while "long" not in desk.placements:
        now += 2.0
        desk.streams(desk.sent[-1], now)
        number += 1
        desk.add(make_prompt(f"later-{number}", 2000), now)
        desk.begin(now)
    # It waits for what comes within twice the seconds that it takes longer.
    assert now <= 2 * (5 - 2) + 4


def test_the_more_important_goes_first() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    desk.add(make_prompt("running", 2000))
    desk.begin()
    for name, priority in (("later", 1), ("normal", 0), ("urgent", -1)):
        desk.add(make_prompt(name, 2000, priority=priority))
    assert names_in_order(desk) == ["urgent", "normal", "later"]


def test_who_has_less_time_left_goes_first() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    desk.add(make_prompt("running", 2000))
    desk.begin()
    for name, deadline in (("none", None), ("late", 1000.0), ("soon", 3.0)):
        desk.add(make_prompt(name, 2000, deadline=deadline))
    order = names_in_order(desk)
    assert order[0] == "soon"
    assert set(order) == {"none", "late", "soon"}


def names_in_order(desk: Desk) -> list[str]:
    (worker,) = desk.dispatcher.lanes.workers
    return [item.request_id for item in desk.dispatcher.lanes.lane(worker)]


def test_who_is_withdrawn_never_begins() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    for name in "ab":
        desk.add(make_prompt(name, 2000))
    desk.begin()
    desk.dispatcher.withdraw("b")
    desk.dispatcher.withdraw("b")
    desk.dispatcher.withdraw("a")
    desk.streams("a", 2.0)
    assert desk.begin(2.0) == {}


def test_nothing_begins_without_room_for_its_answer() -> None:
    desk = Desk(make_fleet(kv_tokens=2048), Mode.ALWAYS)
    desk.add(make_prompt("a", 1000, 500))
    desk.begin()
    desk.streams("a", 1.0)
    # By whole blocks of 16 tokens.
    desk.add(make_prompt("b", 400, 145), 1.0)
    desk.add(make_prompt("c", 400, 144), 1.0)
    assert desk.begin(1.0) == {"c": "p1>d1"}
    desk.ended("c", 2.0)
    desk.ended("a", 2.0)
    assert desk.begin(2.0) == {"b": "p1>d1"}


def test_an_idle_worker_takes_what_might_outgrow_it() -> None:
    desk = Desk(make_fleet(kv_tokens=2000), Mode.ALWAYS)
    desk.add(make_prompt("a", 1500, 5000))
    assert desk.begin() == {"a": "p1>d1"}
    desk.streams("a", 2.0)
    desk.add(make_prompt("b", 10), 2.0)
    assert desk.begin(2.0) == {}


def test_room_that_others_have_promised_is_not_given_again() -> None:
    table = make_fleet(kv_tokens=2000)
    report = make_report(num_running=1)
    report.num_reserved_tokens = 1500
    table.report("d1", report, 0.0)
    desk = Desk(table, Mode.ALWAYS)
    desk.add(make_prompt("a", 600))
    assert desk.begin() == {}
    table.report("d1", make_report(), 0.0)
    assert desk.begin() == {"a": "p1>d1"}


def test_who_has_waited_long_is_not_overtaken_by_what_needs_less_room() -> None:
    desk = Desk(make_fleet(kv_tokens=2000), Mode.ALWAYS)
    desk.add(make_prompt("running", 900, 600))
    desk.begin()
    desk.streams("running", 1.0)
    desk.add(make_prompt("large", 1500, 200), 1.0)
    small = [f"small-{number}" for number in range(2)]
    desk.add(make_prompt(small[0], 100, 100), 2.0)
    assert desk.begin(2.0) == {small[0]: "p1>d1"}
    desk.streams(small[0], 3.0)
    later = 1.0 + PATIENCE_SECONDS + 1.0
    desk.add(make_prompt(small[1], 100, 100), later)
    assert desk.begin(later) == {}
    desk.ended("running", later)
    desk.ended(small[0], later)
    # The small one fits beside it.
    assert list(desk.begin(later)) == ["large", small[1]]


def test_an_idle_worker_takes_over_what_waits_for_another() -> None:
    table = make_fleet("d1", "p1 p2")
    table.book("p2", Booked(1, 1, 1, 60_000, 60.0), 0.0)
    desk = Desk(table, Mode.ALWAYS)
    for name in "abc":
        desk.add(make_prompt(name, 2000))
    assert desk.begin() == {"a": "p1>d1"}
    table.book("p2", Booked(), 0.5)
    assert desk.begin(0.5) == {"b": "p2>d1"}
    found = desk.dispatcher.explanations.get("b")
    assert found is not None
    assert found.content["took_over_from"] == "p1"
    assert found.content["computed_by"] == "p2"


def test_who_joins_gets_what_waits_for_others() -> None:
    table = make_fleet("d1", "p1")
    desk = Desk(table, Mode.ALWAYS)
    for name in "abc":
        desk.add(make_prompt(name, 2000))
    assert desk.begin() == {"a": "p1>d1"}
    for number in range(2, 20):
        table.put(make_worker(f"p{number}", can_prefill=True), is_usable=True)
    begun = desk.begin(0.5)
    assert begun.keys() == {"b", "c"}
    assert not any(pair.startswith("p1>") for pair in begun.values())


def test_who_waits_is_not_taken_to_be_cached_where_another_worker_has_the_row() -> None:
    table = make_fleet("d1", "p1 p2")
    index = make_index("d1 p1 p2 p9")
    index.expect("before", {"p2": keys_of(1, 100)[16]})
    for worker in ("p1", "p2"):
        table.book(worker, Booked(1, 1, 1, 60_000, 60.0), 0.0)
    desk = Desk(table, Mode.ALWAYS, hits=PromptHits(index, table))
    desk.add(make_prompt("a", 1601, block_keys=keys_of(1, 100)))
    assert desk.begin() == {}
    table.remove("p2")
    table.put(make_worker("p9", can_prefill=True), is_usable=True)
    assert desk.begin(1.0) == {"a": "p9>d1"}
    assert desk.placements["a"].num_tokens == 1601


def test_a_slow_worker_takes_over_nothing_that_it_would_finish_later() -> None:
    table = make_fleet("d1", "p1 p2")
    told(table, "p2", token_seconds=0.1)
    desk = Desk(table, Mode.ALWAYS)
    for name in "ab":
        desk.add(make_prompt(name, 2000))
    assert desk.begin() == {"a": "p1>d1"}
    assert desk.begin(1.0) == {}


def test_what_can_only_be_computed_where_it_is_decoded_goes_to_no_prefill_worker() -> None:
    desk = Desk(make_fleet("d1", "p1 p2"), Mode.ALWAYS)
    for name in "ab":
        desk.add(make_prompt(name, 2000, can_hand_off=False))
    assert desk.begin() == {"a": "d1"}
    assert desk.begin(1.0) == {}


def test_where_hand_off_is_never_wanted_prefill_workers_stay_idle() -> None:
    desk = Desk(make_fleet("d1 d2", "p1 p2"), Mode.NEVER)
    for name in "abc":
        desk.add(make_prompt(name, 2000))
    assert set(desk.begin().values()) == {"d1", "d2"}


def test_a_throttled_worker_gets_less() -> None:
    table = make_fleet("d1", "p1 p2")
    told(table, "p2", token_seconds=0.004)
    desk = Desk(table, Mode.ALWAYS)
    sent: Counter[str] = Counter()
    busy: list[tuple[float, str]] = []
    for number in range(100):
        now = number * 1.0
        for ends, name in [each for each in busy if each[0] <= now]:
            desk.streams(name, ends)
            busy.remove((ends, name))
        desk.add(make_prompt(f"r{number}", 1000), now)
        for name, pair in desk.begin(now).items():
            prefill = pair.partition(">")[0]
            sent[prefill] += 1
            busy.append((now + (1.0 if prefill == "p1" else 4.0), name))
    assert sent["p1"] > 3 * sent["p2"]
    assert sum(sent.values()) >= 95


def test_the_pair_with_the_faster_link_is_preferred() -> None:
    table = make_fleet("d1 d2", "p1")
    desk = Desk(table, Mode.ALWAYS)
    rows, pairs = table.rows, desk.dispatcher.router.pairs
    num_bytes = 1000 * table.facts(0).layout.bytes_per_token
    for _ in range(5):
        for _ in range(2):
            pairs.observe(rows["p1"], rows["d1"], num_bytes, 1.0, 5.0)
        pairs.observe(rows["p1"], rows["d2"], num_bytes, 1.0, 0.0)
    for number in range(4):
        desk.add(make_prompt(f"r{number}", 100))
    assert set(desk.begin().values()) == {"p1>d2"}


def test_who_waits_for_a_lost_worker_goes_on_with_all_it_has_waited() -> None:
    table = make_fleet("d1", "p1")
    desk = Desk(table, Mode.ALWAYS)
    for name in ("running", "early"):
        desk.add(make_prompt(name, 2000))
    desk.begin()
    table.put(table.facts(table.rows["p1"]), is_usable=False)
    table.put(make_worker("p2", can_prefill=True), is_usable=True)
    table.book("p2", Booked(1, 1, 1, 5000, 5.0, num_long=1), 3.0)
    desk.add(make_prompt("late", 2000), 3.0)
    assert desk.begin(3.0) == {}
    assert [item.request_id for item in desk.dispatcher.lanes.lane("p2")] == ["early", "late"]
    assert [item.since for item in desk.dispatcher.lanes.lane("p2")] == [0.0, 3.0]


def test_without_another_it_waits_until_somebody_comes() -> None:
    table = make_fleet("d1", "")
    desk = Desk(table)
    for name in ("running", "waiting"):
        desk.add(make_prompt(name, 2000))
    desk.begin()
    table.remove("d1")
    assert desk.begin(5.0) == {}
    table.put(make_worker("d2", can_decode=True), is_usable=True)
    assert desk.begin(6.0) == {"waiting": "d2"}


def test_a_follower_goes_where_its_prompt_is() -> None:
    table = make_fleet("d1 d2", "p1")
    table.book("d2", Booked(num_legs=5), 0.0)
    desk = Desk(table, Mode.ALWAYS)
    assert desk.dispatcher.add_to("d2", make_prompt("1_x", 5000), 0.0)
    assert desk.begin() == {"1_x": "d2"}
    assert desk.placements["1_x"].num_tokens == 1


def test_a_follower_whose_home_is_gone_goes_as_any_other() -> None:
    desk = Desk(make_fleet("d1", "p1"), Mode.ALWAYS)
    assert desk.dispatcher.add_to("gone", make_prompt("1_x", 500), 0.0)
    assert desk.begin() == {"1_x": "p1>d1"}


def test_another_worker_for_a_leg_that_was_given_up() -> None:
    desk = Desk(make_fleet("d1 d2", "p1"))
    request = make_prompt("a", 500)
    placement = desk.dispatcher.lost_placement(request, 0.0, "d1")
    assert placement is not None
    assert (placement.decode.key, placement.prefill) == ("d2", None)
    again = desk.dispatcher.decode_again(request, "p1", 0.0, "d1")
    assert again is not None
    assert again.decode.key == "d2"
    assert again.prefill is not None
    assert again.prefill.key == "p1"
    assert desk.dispatcher.decode_again(request, "gone", 0.0, "d1") is None
    assert Desk(make_fleet("d1")).dispatcher.lost_placement(request, 0.0, "d1") is None


def test_a_session_stays_where_it_was() -> None:
    desk = Desk(make_fleet("d1 d2 d3", "p1 p2 p3"), Mode.ALWAYS)
    desk.add(make_prompt("first", 100, session="s"))
    (first,) = desk.begin().values()
    desk.streams("first")
    desk.ended("first")
    for number in range(5):
        name = f"next-{number}"
        desk.add(make_prompt(name, 100, session="s"), 1.0)
        assert desk.begin(1.0) == {name: first}
        desk.streams(name, 1.0)
        desk.ended(name, 1.0)


def make_index(desk_workers: str) -> PrefixIndex:
    replica = BlockReplica()
    for key in desk_workers.split():
        replica.meet(key)
    return PrefixIndex(replica, lambda: 0.0)


def keys_of(first: int, number: int) -> dict[int, np.ndarray]:
    return {16: np.arange(first, first + number, dtype=np.uint64)}


def test_prompts_that_share_a_beginning_go_to_the_same_worker() -> None:
    table = make_fleet("d1", "p1 p2")
    desk = Desk(table, Mode.ALWAYS, hits=PromptHits(make_index("d1 p1 p2"), table))
    desk.add(make_prompt("a", 1601, block_keys=keys_of(1, 100)))
    (first,) = desk.begin().values()
    desk.streams("a", 2.0)
    desk.add(make_prompt("b", 1601, block_keys=keys_of(1, 100)), 2.0)
    assert desk.begin(2.0) == {"b": first}


def test_a_cache_is_not_worth_a_long_wait() -> None:
    table = make_fleet("d1", "p1 p2")
    index = make_index("d1 p1 p2")
    index.expect("before", {"p2": keys_of(1, 100)[16]})
    table.book("p2", Booked(1, 1, 1, 30_000, 30.0), 0.0)
    desk = Desk(table, Mode.ALWAYS, hits=PromptHits(index, table))
    desk.add(make_prompt("a", 1601, block_keys=keys_of(1, 100)))
    assert desk.begin() == {"a": "p1>d1"}


def test_answers_without_a_limit_are_promised_what_answers_need() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    for _ in range(100):
        desk.dispatcher.lengths.observe(40)
    desk.add(make_prompt("a", 100, None))
    desk.begin()
    assert 140 <= desk.placements["a"].kv_tokens <= 180


def test_a_request_that_was_computed_elsewhere_is_explained() -> None:
    desk = Desk(make_fleet(), Mode.AUTO)
    desk.add(make_prompt("a", 100))
    desk.begin()
    found = desk.dispatcher.explanations.get("a")
    assert found is not None
    assert found.content["way"] in {way.value for way in Way}
    assert found.content["took_over_from"] is None


steps = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "come", "stream", "end", "leave", "lose", "join"]),
        st.integers(1, 1500),
        st.integers(1, 300),
        st.floats(0, 3),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps, st.sampled_from(list(Mode)), st.sampled_from(["default", "round-robin"]))
def test_whatever_happens_nothing_is_lost_or_started_twice_and_no_room_is_promised_twice(
    history: list[tuple[str, int, int, float]], mode: Mode, routing: str
) -> None:
    table = make_fleet("d1 d2", "p1 p2", kv_tokens=2000)
    desk = Desk(table, mode, routing)
    waiting: set[str] = set()
    streaming: list[str] = []
    now, number = 0.0, 0
    dice = random.Random(1)

    def begin() -> None:
        for name in desk.begin(now):
            waiting.remove(name)
        for worker, row in table.rows.items():
            booked = desk.ledger.booked(worker)
            if table.columns.can_decode[row] and booked.num_legs > 1:
                assert booked.kv_tokens <= table.columns.kv_tokens[row]

    for what, num_tokens, max_tokens, seconds in history:
        now += seconds
        under_way = [name for name in desk.placements if name not in streaming]
        if what == "come":
            number += 1
            if desk.add(make_prompt(f"r{number}", num_tokens, max_tokens), now):
                waiting.add(f"r{number}")
        elif what == "stream" and under_way:
            streaming.append(dice.choice(under_way))
            desk.streams(streaming[-1], now)
        elif what == "end" and streaming:
            desk.ended(streaming.pop(0), now)
        elif what == "leave" and waiting:
            name = dice.choice(sorted(waiting))
            desk.dispatcher.withdraw(name)
            waiting.remove(name)
        elif what in ("lose", "join"):
            worker = ("d2", "p2")[num_tokens % 2]
            table.put(table.facts(table.rows[worker]), is_usable=what == "join")
        begin()
        assert {item.request_id for item in desk.dispatcher.lanes} == waiting
    for worker in ("d2", "p2"):
        table.put(table.facts(table.rows[worker]), is_usable=True)
    for _ in range(2 * number + 2):
        now += 100.0
        for name in list(desk.placements):
            desk.streams(name, now)
            desk.ended(name, now)
        begin()
    assert not waiting
    assert len(desk.sent) == len(set(desk.sent))
    assert all(each == (0, 0) for each in zip(*queue_of(desk), strict=True))


def queue_of(desk: Desk) -> tuple[list[float], list[float]]:
    columns = desk.table.columns
    return columns.num_queued.tolist(), columns.queued_seconds.tolist()


def test_nobody_who_waits_is_forgotten_while_rows_change() -> None:
    table = make_fleet("d1", "p1")
    desk = Desk(table, Mode.ALWAYS)
    for name in ("running", "waiting"):
        desk.add(make_prompt(name, 2000))
    desk.begin()
    table.put(table.facts(table.rows["d1"]), is_usable=False)
    for number in range(10):
        table.put(make_worker(f"q{number}", can_prefill=True), is_usable=True)
    assert desk.begin(1.0) == {}
    assert desk.dispatcher.num_waiting == 1
    table.put(make_worker("d2", can_decode=True), is_usable=True)
    assert list(desk.begin(2.0)) == ["waiting"]


def test_a_short_prompt_passes_a_long_one_that_has_waited_long() -> None:
    desk = Desk(make_fleet("d1", "p1"), Mode.ALWAYS)
    for number in range(4):
        desk.add(make_prompt(f"long{number}", 100_000))
    assert list(desk.begin()) == ["long0"]
    desk.streams("long0", 100.0)
    assert list(desk.begin(100.0)) == ["long1"]
    desk.streams("long1", 200.0)
    assert list(desk.begin(200.0)) == ["long2"]
    desk.add(make_prompt("short", 200), 250.0)
    assert list(desk.begin(250.0)) == ["short"]
    # And who is long is not held up by those that are short.
    desk.streams("long2", 251.0)
    assert list(desk.begin(251.0)) == ["long3"]


def test_who_needs_much_room_is_not_overtaken_for_ever() -> None:
    table = FleetTable()
    table.put(make_worker("d1", can_decode=True, kv_tokens=10_000), is_usable=True)
    for key in ("p1", "p2"):
        table.put(make_worker(key, can_prefill=True), is_usable=True)
    desk = Desk(table, Mode.ALWAYS)
    running = [f"small{number}" for number in range(5)]
    for name in running:
        desk.add(make_prompt(name, 1000, max_tokens=1000))
        desk.begin()
        desk.streams(name, 0.0)
    desk.add(make_prompt("big", 8000, max_tokens=1000), 0.0)
    begun: list[str] = []
    for number in range(60):
        now = 0.5 * (number + 1)
        if running:
            desk.ended(running.pop(0), now)
        desk.add(make_prompt(f"later{number}", 1000, max_tokens=1000), now)
        new = list(desk.begin(now))
        for name in new:
            desk.streams(name, now)
        running += [name for name in new if name != "big"]
        begun += new
    assert "big" in begun


def test_no_prompt_is_taken_over_by_a_worker_that_it_does_not_fit_into() -> None:
    table = FleetTable()
    table.put(make_worker("d1", can_decode=True, kv_tokens=100_000), is_usable=True)
    table.put(make_worker("d2", can_decode=True, kv_tokens=1000), is_usable=True)
    desk = Desk(table, Mode.AUTO)
    for name in ("a", "b"):
        desk.add(make_prompt(name, 20_000))
    assert desk.begin() == {"a": "d1"}


def test_who_has_lost_the_last_partner_is_planned_anew() -> None:
    table = FleetTable()
    table.put(make_worker("d1", can_decode=True), is_usable=True)
    table.put(make_worker("d2", FLOAT_LAYOUT, can_decode=True), is_usable=True)
    table.put(make_worker("p1", can_prefill=True), is_usable=True)
    desk = Desk(table, Mode.ALWAYS)
    desk.add(make_prompt("a", 900_000, max_tokens=140_000))
    assert desk.begin() == {"a": "p1>d1"}
    desk.streams("a", 1.0)
    desk.add(make_prompt("b", 900_000, max_tokens=140_000), 1.0)
    assert desk.begin(1.0) == {}
    table.put(table.facts(table.rows["d1"]), is_usable=False)
    assert desk.begin(2.0) == {"b": "d2"}


def test_a_worker_does_not_inherit_the_links_of_the_one_before_it() -> None:
    table = make_fleet("d1", "p1")
    desk = Desk(table, Mode.ALWAYS)
    source, target = table.rows["p1"], table.rows["d1"]
    pairs = desk.dispatcher.router.pairs
    for _ in range(2):
        pairs.observe(source, target, 1e6, 1.0, 9.0)
    table.remove("p1")
    table.put(make_worker("p9", can_prefill=True), is_usable=True)
    assert table.rows["p9"] == source
    desk.add(make_prompt("a", 1000))
    assert desk.begin() == {"a": "p9>d1"}
    assert pairs.rate(source, target) == 0


def test_a_follower_goes_nowhere_but_to_its_prompt_whatever_the_index_knows() -> None:
    table = make_fleet("d1", "p1")
    desk = Desk(table, Mode.ALWAYS, hits=PromptHits(make_index("d1 p1"), table))
    table.book("d1", Booked(4, 4, 4, 40_000, 40.0, num_long=4), 0.0)
    assert desk.dispatcher.add_to("d1", make_prompt("1_x", 1601, block_keys=keys_of(1, 100)), 0.0)
    assert desk.begin() == {"1_x": "d1"}
