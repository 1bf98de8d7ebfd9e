"""A folder of limited size for cold KV.

Written against vllm/v1/kv_offload/tiering/fs of vLLM 0.32, whose tier knows no limit.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from vllm.v1.kv_offload.base import LookupResult, OffloadingEvent, OffloadKey, ReqContext
from vllm.v1.kv_offload.tiering.base import JobResult, TransferJob
from vllm.v1.kv_offload.tiering.fs.io import batch_load_block, batch_store_block
from vllm.v1.kv_offload.tiering.fs.manager import FileSystemTierManager

from kvtransfer.offload_ledger import Exchange, FolderLedger

LOCK = "in-use"


@dataclass(frozen=True, slots=True)
class Read:
    """Blocks on their way back; `num_read` before one that could not be read."""

    keys: tuple[OffloadKey, ...]
    num_read: int | None = None


class FolderTier(FileSystemTierManager):
    """Blocks as files, the least recently used of which give way.

    The folder is this worker's own: it is empty at the start and at the end, so that no KV
    of another model, and none of a prompt long gone, is ever in it.
    """

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        root_dir: str,
        capacity_bytes: int,
        num_threads: int = 4,
        backpressure_detector: Any = None,
    ) -> None:
        """Raises OSError if the folder cannot be used."""
        self._root = Path(root_dir)
        self._lock = lock(self._root)
        empty(self._root)
        super().__init__(
            offloading_spec,
            primary_kv_view,
            tier_type,
            root_dir,
            n_read_threads=num_threads,
            n_write_threads=num_threads,
            enable_kv_events=offloading_spec.kv_events_config.enable_kv_cache_events,
            locality="LOCAL",
            backpressure_detector=backpressure_detector,
        )
        self._ledger = FolderLedger(capacity_bytes // self._block_size)
        self._exchanges: dict[int, Exchange] = {}
        self._reads: dict[int, Read] = {}

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        if key not in self._ledger:
            return LookupResult.MISS
        self._ledger.touch([key])
        return LookupResult.HIT

    def touch(self, keys: Iterable[OffloadKey], req_context: ReqContext) -> None:
        self._ledger.touch(keys)

    def submit_store(self, job_metadata: TransferJob) -> None:
        keys = list(job_metadata.keys)
        places = dict(zip(keys, job_metadata.chunk_ids, strict=True))
        exchange = self._ledger.store(keys)
        self._exchanges[job_metadata.job_id] = exchange
        offsets = self._offsets(places[key] for key in exchange.stored)
        self._pool.enqueue_store(job_metadata.job_id, 1, [partial(self._swap, exchange, offsets)])

    def submit_load(self, job_metadata: TransferJob) -> None:
        keys = tuple(job_metadata.keys)
        self._ledger.read(keys)
        self._reads[job_metadata.job_id] = Read(keys)
        task = partial(self._fill, job_metadata.job_id, self._offsets(job_metadata.chunk_ids))
        self._pool.enqueue_load(job_metadata.job_id, 1, [task])

    def get_finished_jobs(self) -> list[JobResult]:
        return [
            self._stored(job_id, is_done, seconds)
            if job_id in self._exchanges
            else self._loaded(job_id, is_done, seconds)
            for job_id, is_done, seconds in self._pool.get_finished()
        ]

    def shutdown(self) -> None:
        super().shutdown()
        empty(self._root)
        self._lock.close()

    def _swap(self, exchange: Exchange, offsets: list[int]) -> None:
        """On a thread of the pool. Raises OSError, and has then written nothing."""
        for path in self._paths(exchange.evicted):
            path.unlink(missing_ok=True)
        paths = self._paths(exchange.stored)
        try:
            batch_store_block(
                [str(path) for path in paths],
                self._primary_kv_view,
                offsets,
                self._block_size,
                self._use_o_direct,
            )
        except OSError:
            for path in paths:
                path.unlink(missing_ok=True)
            raise

    def _fill(self, job_id: int, offsets: list[int]) -> None:
        """On a thread of the pool. Raises OSError, after it has noted how far it came."""
        read = self._reads[job_id]
        paths = self._paths(read.keys)
        try:
            batch_load_block(
                [str(path) for path in paths],
                self._primary_kv_view,
                offsets,
                self._block_size,
                self._use_o_direct,
            )
        except OSError as error:
            num_read = getattr(error, "num_succeeded", 0)
            self._reads[job_id] = replace(read, num_read=num_read)
            with suppress(OSError):
                paths[num_read].unlink(missing_ok=True)
            raise

    def _stored(self, job_id: int, is_done: bool, seconds: float) -> JobResult:
        exchange = self._exchanges.pop(job_id)
        self._ledger.exchanged(exchange, is_done)
        self._tell(exchange.evicted, is_removed=True)
        if is_done:
            self._tell(exchange.stored, is_removed=False)
        num_bytes = len(exchange.stored) * self._block_size
        return JobResult(job_id, is_done, transfer_time=seconds, transfer_bytes=num_bytes)

    def _loaded(self, job_id: int, is_done: bool, seconds: float) -> JobResult:
        read = self._reads.pop(job_id)
        self._ledger.was_read(read.keys)
        good = read.keys
        if not is_done:
            good = read.keys[: read.num_read or 0]
            lost = read.keys[len(good)]
            if self._ledger.lose(lost):
                self._tell([lost], is_removed=True)
        num_bytes = len(good) * self._block_size
        return JobResult(job_id, is_done, None if is_done else good, seconds, num_bytes)

    def _tell(self, keys: Sequence[bytes], is_removed: bool) -> None:
        if self.events is not None and keys:
            self.events.append(
                OffloadingEvent(
                    keys=[OffloadKey(key) for key in keys],
                    medium=self.medium,
                    removed=is_removed,
                    locality=self.locality,
                    removal_expected=not is_removed,
                )
            )

    def _paths(self, keys: Iterable[bytes]) -> list[Path]:
        return [Path(self.file_mapper.get_file_name(key)) for key in keys]

    def _offsets(self, places: Iterable[Any]) -> list[int]:
        return [int(place) * self._block_size for place in places]


def lock(folder: Path) -> IO[str]:
    """The folder's, made if it is not there, and its owner's alone: KV tells of prompts.

    Raises OSError if another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    file = (folder / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OSError(f"{folder} is in use by another worker") from error
    return file


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
