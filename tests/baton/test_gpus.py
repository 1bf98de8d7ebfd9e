from __future__ import annotations

from pathlib import Path

import pytest

from baton import gpus
from baton.gpus import GpuShare, assign_gpus, available_gpus


def test_each_worker_has_its_own_gpus() -> None:
    shares = assign_gpus(["0", "1", "2", "3", "4"], 2)
    assert shares == (GpuShare(("0", "1")), GpuShare(("2", "3")))


def test_workers_that_share_a_gpu_share_its_memory() -> None:
    shares = assign_gpus(["0", "1"], 3)
    assert [share.gpus for share in shares] == [("0",), ("1",), ("0",)]
    assert {share.memory_share for share in shares} == {0.45}


def test_without_gpus_nobody_has_one() -> None:
    assert assign_gpus([], 2) == (GpuShare(()), GpuShare(()))


@pytest.mark.parametrize(
    ("visible", "expected"), [("2,3", ("2", "3")), ("", ()), (None, ("0", "1"))]
)
def test_visible_gpus_are_those_of_the_user_or_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(gpus, "has_cpu_build", lambda: False)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert available_gpus(environment, tmp_path) == expected


def test_vllms_cpu_build_uses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "has_cpu_build", lambda: True)
    assert available_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == ()
