from __future__ import annotations

from gateway.compatibility import kv_obstacle, layout_misfit
from proto.worker_pb2 import ROLE_DECODE, ROLE_PREFILL, Description
from tests.proto.builders import LAYOUT, SMALLER_BLOCKS


def test_baton_converts_between_layouts_and_nixl_does_not() -> None:
    assert kv_obstacle(("baton", LAYOUT), ("baton", SMALLER_BLOCKS)) is None
    assert kv_obstacle(("nixl", LAYOUT), ("nixl", LAYOUT)) is None
    found = kv_obstacle(("nixl", LAYOUT), ("nixl", SMALLER_BLOCKS))
    assert found is not None
    assert LAYOUT.summary in found and SMALLER_BLOCKS.summary in found


def test_a_worker_that_moves_kv_in_another_way_than_its_counterparts_is_named() -> None:
    layout = LAYOUT.to_proto()
    prefill = Description(
        worker_id="p", roles=[ROLE_PREFILL], kv_layout=layout, kv_connector="nixl"
    )
    decode = Description(worker_id="d", roles=[ROLE_DECODE], kv_layout=layout, kv_connector="baton")
    found = layout_misfit(decode, [prefill])
    assert found == "p and d do not fit: one moves KV by nixl, the other by baton"
