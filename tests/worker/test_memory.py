from __future__ import annotations

import pytest

from worker.errors import NotEnoughMemory
from worker.memory import GIB, check_memory


def test_what_fits_is_fine() -> None:
    check_memory(GIB, GIB, free_bytes=2 * GIB)


def test_what_does_not_fit_is_said_with_all_numbers() -> None:
    with pytest.raises(NotEnoughMemory, match=r"2\.0 GiB of weights and 1\.0 GiB .* 2\.5 GiB are"):
        check_memory(2 * GIB, GIB, free_bytes=5 * GIB // 2)


def test_memory_for_cold_kv_counts() -> None:
    with pytest.raises(NotEnoughMemory, match=r"and 1\.0 GiB for cold KV"):
        check_memory(GIB, GIB, offload_bytes=GIB, free_bytes=2 * GIB)


def test_the_machine_is_asked() -> None:
    with pytest.raises(NotEnoughMemory):
        check_memory(10**18, GIB)
