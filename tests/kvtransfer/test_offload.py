from __future__ import annotations

from pathlib import Path

from kvtransfer.offload import OffloadPlan

BATON = {
    "kv_connector": "BatonConnector",
    "kv_connector_module_path": "kvtransfer.connector",
    "kv_role": "kv_producer",
    "kv_load_failure_policy": "recompute",
    "kv_connector_extra_config": {"slot_bytes": 1},
}


def test_the_other_connector_comes_first_and_the_whole_recomputes() -> None:
    config = OffloadPlan(host_bytes=2**20).beside(BATON)
    assert config["kv_connector"] == "MultiConnector"
    assert config["kv_role"] == "kv_producer"
    assert config["kv_load_failure_policy"] == "recompute"
    first, second = config["kv_connector_extra_config"]["connectors"]
    assert first == {
        name: value for name, value in BATON.items() if name != "kv_load_failure_policy"
    }
    assert second["kv_role"] == "kv_producer"
    assert second["kv_connector_extra_config"]["cpu_bytes_to_use"] == 2**20
    assert second["kv_connector_extra_config"]["secondary_tiers"] == []


def test_a_folder_is_a_second_tier() -> None:
    config = OffloadPlan(2**20, Path("/var/kv"), 2**30).beside(BATON)
    offload = config["kv_connector_extra_config"]["connectors"][1]
    (tier,) = offload["kv_connector_extra_config"]["secondary_tiers"]
    assert (tier["root_dir"], tier["capacity_bytes"]) == ("/var/kv", 2**30)
