from __future__ import annotations

from dataclasses import fields

from kvtransfer.offload_stats import Offloads
from kvtransfer.stats import Transfers
from proto import worker_pb2
from worker.load import Load, by_connector, held_by_ranks


def test_what_ranks_hold_for_a_ticket_adds_up() -> None:
    assert held_by_ranks([{b"a": 1, b"b": 2}, {b"a": 4}, {}]) == {b"a": 5, b"b": 2}


def test_every_counter_crosses_the_border() -> None:
    names = {each.name for each in fields(Transfers)}
    assert names == set(worker_pb2.Transfers.DESCRIPTOR.fields_by_name)
    load = Load(1, 2, 3, 4, Transfers(open_loads=5, exposed_seconds=0.5))
    report = load.to_proto()
    assert (report.num_running, report.num_waiting) == (1, 2)
    assert (report.num_kv_blocks, report.num_kv_blocks_used) == (3, 4)
    assert (report.transfers.open_loads, report.transfers.exposed_seconds) == (5, 0.5)


def test_every_counter_of_cold_kv_crosses_the_border() -> None:
    names = {each.name for each in fields(Offloads)}
    assert names == set(worker_pb2.Offloads.DESCRIPTOR.fields_by_name)
    report = Load(offloads=Offloads(loads=3, load_seconds=0.5)).to_proto()
    assert (report.offloads.loads, report.offloads.load_seconds) == (3, 0.5)


def test_connectors_are_told_apart() -> None:
    moved, offloaded = {"open_sends": 1}, {"loads": 2}
    assert by_connector(None) == by_connector({}) == (None, None)
    assert by_connector(moved) == (moved, None)
    assert by_connector({"BatonConnector": moved}) == (moved, None)
    assert by_connector({"OffloadConnector": offloaded}) == (None, offloaded)
    both = {"BatonConnector": moved, "OffloadConnector": offloaded}
    assert by_connector(both) == (moved, offloaded)


def test_what_is_held_is_no_news_by_itself() -> None:
    assert Load(held={b"a": 1}) == Load()
