from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.tiny_model import make_tiny_model
from worker.engine_plan import EnginePlan
from worker.errors import BadSettings
from worker.model_folder import ModelFolder


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """A plan sets variables for the engine that it starts."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def make_plan(folder: Path, **changes: Any) -> EnginePlan:
    path = make_tiny_model(folder / "tiny")
    model = ModelFolder(path, (path / "config.json").read_bytes(), weights=())
    settings: dict[str, Any] = {
        "kv_role": "kv_both",
        "staging_bytes": 2**20,
        "fleet_key_file": folder / "key",
    }
    return EnginePlan(model, **(settings | changes))


def test_the_connector_is_told_how_kv_is_to_travel(tmp_path: Path) -> None:
    plan = make_plan(
        tmp_path, kv_wire="int8", kv_stall_seconds=2.0, kv_max_loads=3, ucx={"TLS": "tcp"}
    )
    transfer = plan.configure("ipc:///tmp/blocks").kv_transfer_config
    assert transfer is not None
    assert (transfer.kv_connector, transfer.kv_role) == ("BatonConnector", "kv_both")
    assert transfer.kv_connector_extra_config == {
        "staging_bytes": 2**20,
        "staging": "host",
        "fleet_key_file": str(tmp_path / "key"),
        "wire": "int8",
        "stall_seconds": 2.0,
        "max_loads": 3,
        "fault": "none",
        "ucx": {"TLS": "tcp"},
    }


@pytest.mark.parametrize("has_gpu", [True, False])
def test_staging_in_a_gpus_memory_takes_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    monkeypatch.setattr("vllm.platforms.interface.Platform.is_cuda_alike", lambda self: has_gpu)
    plan = make_plan(tmp_path, kv_staging="device")
    if not has_gpu:
        with pytest.raises(BadSettings, match="--kv-staging device: this engine has no GPU"):
            plan.configure("ipc:///tmp/blocks")
        return
    transfer = plan.configure("ipc:///tmp/blocks").kv_transfer_config
    assert transfer is not None
    assert transfer.kv_connector_extra_config["staging"] == "device"


def test_a_worker_does_not_load_numba() -> None:
    """vLLM looks into every loaded module for kernels, and falls over those of numba."""
    code = "import sys, worker.process, worker.engine_scheduler; print('numba' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split()[-1] == "False"
