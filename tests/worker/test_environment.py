from __future__ import annotations

import pytest

from worker.environment import bind_ranks, engine_environment


def test_what_is_set_stays() -> None:
    present = {"OMP_NUM_THREADS": "7", "VLLM_CPU_KVCACHE_SPACE": "5"}
    added = engine_environment(present, num_cores=2, kv_cache_gib=None)
    assert not present.keys() & added.keys()
    assert added["PYTHONHASHSEED"] == "0"


def test_the_cores_and_the_kv_cache_are_this_workers() -> None:
    added = engine_environment({}, num_cores=3, kv_cache_gib=None)
    assert (added["OMP_NUM_THREADS"], added["VLLM_CPU_KVCACHE_SPACE"]) == ("3", "1")


def test_a_kv_cache_that_was_asked_for_goes_over_the_variable() -> None:
    added = engine_environment({"VLLM_CPU_KVCACHE_SPACE": "5"}, num_cores=1, kv_cache_gib=2)
    assert added["VLLM_CPU_KVCACHE_SPACE"] == "2"


@pytest.mark.parametrize(
    ("cores", "num_ranks", "binding"),
    [
        ([0, 1, 2, 3], 2, "0,1|2,3"),
        ([4, 5, 6], 2, "4|5"),
        ([0, 1], 2, "0|1"),
        ([3], 2, "3|3"),
    ],
)
def test_ranks_share_the_cores(cores: list[int], num_ranks: int, binding: str) -> None:
    assert bind_ranks(cores, num_ranks) == binding
