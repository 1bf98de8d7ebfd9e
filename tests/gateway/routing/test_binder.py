from __future__ import annotations

import pytest

from gateway.routing.binder import PATIENCE_SECONDS
from gateway.routing.decider import Mode
from gateway.routing.fleet_table import FleetTable
from proto import worker_pb2
from tests.gateway.builders import make_worker
from tests.gateway.routing.builders import Desk, make_fleet, make_prompt


@pytest.mark.parametrize(
    ("cached", "num_moved"),
    [
        pytest.param({"p1": 900}, 1000, id="by the prefill worker alone: all of it moves"),
        pytest.param({"d1": 400}, 600, id="by the decode worker: the rest moves"),
        pytest.param({"p1": 900, "d1": 400}, 600, id="by both"),
        pytest.param({}, 1000, id="nowhere"),
    ],
)
def test_what_moves_is_what_the_decode_worker_does_not_cache(
    cached: dict[str, int], num_moved: int
) -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    desk.add(make_prompt("r", 1000))
    (item,) = desk.dispatcher.lanes
    for key, num_tokens in cached.items():
        item.query.cached[desk.table.rows[key]] = num_tokens
    assert desk.begin() == {"r": "p1>d1"}
    assert desk.placements["r"].moved_tokens == num_moved


def test_nothing_moves_where_it_is_decoded_and_computed() -> None:
    desk = Desk(make_fleet(), Mode.NEVER)
    desk.add(make_prompt("r", 1000))
    assert desk.begin() == {"r": "d1"}
    assert desk.placements["r"].moved_tokens == 0


def test_no_room_is_kept_once_nobody_can_decode_who_waited() -> None:
    table = FleetTable()
    for key, kv_tokens in (("d1", 50_000), ("d2", 100_000)):
        table.put(make_worker(key, can_decode=True, kv_tokens=kv_tokens), is_usable=True)
    table.put(make_worker("p1", can_prefill=True), is_usable=True)
    desk = Desk(table, Mode.ALWAYS)
    table.report("d2", worker_pb2.LoadReport(num_running=5, num_reserved_tokens=95_000), 0.0)
    desk.add(make_prompt("large", 60_000))
    desk.begin(1.0)
    assert desk.begin(2 * PATIENCE_SECONDS) == {}
    table.remove("d2")
    desk.add(make_prompt("small", 1000), 2 * PATIENCE_SECONDS)
    assert desk.begin(2 * PATIENCE_SECONDS) == {"small": "p1>d1"}
    assert not any(item.request_id == "large" for item in desk.dispatcher.lanes)
