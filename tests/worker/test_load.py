from __future__ import annotations

from dataclasses import asdict, fields

from kvtransfer.stats import Transfers
from proto import worker_pb2
from worker.load import Load, sum_of_ranks


def test_ranks_add_up() -> None:
    one = asdict(Transfers(open_sends=1, sent_bytes=10, load_seconds=0.5))
    two = asdict(Transfers(open_sends=2, load_seconds=0.25))
    assert sum_of_ranks([one, two]) == Transfers(open_sends=3, sent_bytes=10, load_seconds=0.75)
    assert sum_of_ranks([{"open_sends": 1, "of a later version": 1}]) == Transfers(open_sends=1)


def test_every_counter_crosses_the_border() -> None:
    names = {each.name for each in fields(Transfers)}
    assert names == set(worker_pb2.Transfers.DESCRIPTOR.fields_by_name)
    load = Load(1, 2, 3, 4, Transfers(open_loads=5, exposed_seconds=0.5))
    report = load.to_proto()
    assert (report.num_running, report.num_waiting) == (1, 2)
    assert (report.num_kv_blocks, report.num_kv_blocks_used) == (3, 4)
    assert (report.transfers.open_loads, report.transfers.exposed_seconds) == (5, 0.5)
