"""The places for cold KV, without an engine: one rank's blocks, host memory, a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vllm.v1.kv_offload.base import (
    CanonicalKVCacheRef,
    CanonicalKVCaches,
    CanonicalKVCacheTensor,
    GPULoadStoreSpec,
    LookupResult,
    OffloadKey,
    ReqContext,
    ScheduleEndContext,
    make_offload_key,
)
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.cpu.common import CPULoadStoreSpec

from kvtransfer.offload_folder import LOCK, FolderTier
from kvtransfer.offload_spec import OffloadSpec

NUM_LAYERS, NUM_BLOCKS, PAGE_BYTES = 2, 6, 4096
HOST_BLOCKS, FOLDER_BLOCKS = 4, 3
PATIENCE_SECONDS = 10.0


def make_config(name: str, **extra: Any) -> OffloadingConfig:
    block_bytes = NUM_LAYERS * PAGE_BYTES
    return OffloadingConfig(
        groups=(OffloadingGroupConfig(16, ("layer.0", "layer.1"), 0),),
        worker_kv_bytes_per_block=block_bytes,
        enable_kv_cache_events=True,
        extra_config={"cpu_bytes_to_use": HOST_BLOCKS * block_bytes, **extra},
        engine_id=name,
        model=OffloadingModelConfig("tiny", "float32"),
        cache=OffloadingCacheConfig(tokens_per_hash=16, blocks_per_chunk=1),
        parallel=OffloadingParallelConfig(0, 1, 1, 1, 1, 1, 0, 1, None, True),
    )


def make_caches() -> tuple[CanonicalKVCaches, list[torch.Tensor]]:
    layers = [
        torch.randint(-128, 128, (NUM_BLOCKS, PAGE_BYTES), dtype=torch.int8)
        for _ in range(NUM_LAYERS)
    ]
    refs = [CanonicalKVCacheRef(i, PAGE_BYTES) for i in range(NUM_LAYERS)]
    tensors = [CanonicalKVCacheTensor(layer, PAGE_BYTES) for layer in layers]
    return CanonicalKVCaches(tensors, [refs]), layers


def of_cache(*blocks: int) -> GPULoadStoreSpec:
    return GPULoadStoreSpec(list(blocks), [len(blocks)], [0])


def of_host(*blocks: int) -> CPULoadStoreSpec:
    return CPULoadStoreSpec(list(blocks))


def key_of(name: str) -> OffloadKey:
    return make_offload_key(name.encode().ljust(32), 0)


@pytest.fixture
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> OffloadSpec:
    tier = {
        "type": "FolderTier",
        "module_path": "kvtransfer.offload_folder",
        "root_dir": str(tmp_path / "kv"),
        "capacity_bytes": FOLDER_BLOCKS * NUM_LAYERS * PAGE_BYTES,
    }
    return OffloadSpec(make_config(tmp_path.name, secondary_tiers=[tier]))


@pytest.fixture
def worker(spec: OffloadSpec) -> Iterator[Any]:
    caches, layers = make_caches()
    worker = spec.get_worker(caches)
    worker.layers = layers
    yield worker
    worker.shutdown()


class Tiers:
    """vLLM's manager of both places; a block in host memory is filled with one number."""

    def __init__(self, spec: OffloadSpec) -> None:
        self.manager = spec.get_manager()
        self._spec = spec
        self._view = np.asarray(self.manager.primary_tier.get_kv_memoryview())
        (self.folder,) = self.manager.secondary_tiers
        assert isinstance(self.folder, FolderTier)

    def store(self, **blocks: int) -> None:
        """Name by name, as if each were another request's."""
        for name, number in blocks.items():
            context = ReqContext(name)
            self.manager.on_new_request(context)
            found = self.manager.prepare_store([key_of(name)], context)
            (place,) = found.store_spec.chunk_ids
            self._view[place] = number
            self.manager.complete_store([key_of(name)], context)
            self.manager.on_request_finished(context)
            self.settle()

    def load(self, name: str) -> int | None:
        """The number; None if the block is nowhere."""
        context = ReqContext(f"load {name}")
        self.manager.on_new_request(context)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.manager.lookup(key_of(name), context)) is LookupResult.HIT_PENDING:
            assert time.monotonic() < deadline
            self.step()
        if found is LookupResult.MISS:
            return None
        (place,) = self.manager.prepare_load([key_of(name)], context).chunk_ids
        self.manager.complete_load([key_of(name)], context)
        self.manager.on_request_finished(context)
        (number,) = set(self._view[place].tolist())
        return int(number)

    def settle(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.manager.has_pending_work():
            assert time.monotonic() < deadline
            self.step()

    def step(self) -> None:
        self.manager.on_schedule_end(ScheduleEndContext((), ()))

    def events(self) -> list[tuple[str, bool, str]]:
        """Medium, whether it was removed, and the name."""
        return [
            (event.medium.value, event.removed, key[:-4].decode().strip())
            for event in self.manager.take_events()
            for key in event.keys
        ]


@pytest.fixture
def tiers(spec: OffloadSpec) -> Iterator[Tiers]:
    tiers = Tiers(spec)
    yield tiers
    tiers.manager.shutdown()


def files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.bin"))


def test_blocks_go_to_host_memory_and_come_back_to_others(worker: Any) -> None:
    before = [layer.clone() for layer in worker.layers]
    worker.submit_store(1, of_cache(0, 5), of_host(3, 1))
    worker.wait({1})
    for layer in worker.layers:
        layer.zero_()
    worker.submit_load(2, of_host(1, 3), of_cache(2, 4))
    worker.wait({1, 2})
    done = {each.job_id: each for each in worker.get_finished()}
    assert {job: each.transfer_size for job, each in done.items()} == dict.fromkeys(
        (1, 2), 2 * NUM_LAYERS * PAGE_BYTES
    )
    for layer, old in zip(worker.layers, before, strict=True):
        assert torch.equal(layer[2], old[5]) and torch.equal(layer[4], old[0])
        assert not layer[[0, 1, 3, 5]].any()
    assert worker.get_finished() == []


def test_host_memory_has_no_name_once_all_have_opened_it(
    spec: OffloadSpec, worker: Any, tmp_path: Path
) -> None:
    shared = Path("/dev/shm") / f"vllm_offload_{tmp_path.name}.mmap"
    assert shared.exists()
    spec.get_manager().shutdown()
    assert not shared.exists()


def test_a_block_that_left_host_memory_comes_back_from_the_folder(
    tiers: Tiers, tmp_path: Path
) -> None:
    tiers.store(a=1, b=2, c=3, d=4, e=5)
    assert tiers.manager.primary_tier.lookup(key_of("b"), ReqContext("x")) is LookupResult.HIT
    assert tiers.load("e") == 5
    assert tiers.load("a") is None
    assert len(files(tmp_path)) == FOLDER_BLOCKS
    tiers.store(f=6, g=7)
    assert tiers.load("d") == 4


def test_both_places_tell_what_they_have(tiers: Tiers) -> None:
    tiers.store(a=1)
    assert sorted(tiers.events()) == [("CPU", False, "a"), ("STORAGE", False, "a")]
    tiers.store(b=2, c=3, d=4)
    assert ("STORAGE", True, "a") in tiers.events()
    tiers.store(e=5)
    assert ("CPU", True, "a") in tiers.events()


def test_a_file_that_is_gone_is_a_block_that_is_nowhere(tiers: Tiers, tmp_path: Path) -> None:
    tiers.store(a=1, b=2)
    tiers.events()
    tiers.manager.primary_tier.reset_cache()
    for file in files(tmp_path):
        file.unlink()
    assert tiers.load("b") is None
    assert tiers.events() == [("STORAGE", True, "b")]
    assert tiers.load("b") is None


def test_a_folder_that_takes_nothing_costs_nothing_but_its_blocks(
    tiers: Tiers, tmp_path: Path
) -> None:
    broken = Path(tiers.folder.file_mapper.base_path + "_r0")
    broken.write_text("no folder")
    tiers.store(a=1)
    assert tiers.load("a") == 1
    assert tiers.events() == [("CPU", False, "a")]
    broken.unlink()
    tiers.store(b=2)
    assert len(files(tmp_path)) == 1


def test_the_folder_is_one_workers_and_empty_at_both_ends(
    spec: OffloadSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "kv"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "block.bin").touch()
    tiers = Tiers(spec)
    assert files(folder) == []
    other = OffloadSpec(make_config(f"{tmp_path.name}-other", **spec.extra_config))
    with pytest.raises(OSError, match="in use by another worker"):
        other.get_manager()
    tiers.store(a=1)
    assert len(files(folder)) == 1
    assert folder.stat().st_mode & 0o077 == 0
    tiers.manager.shutdown()
    assert [path.name for path in folder.iterdir()] == [LOCK]
