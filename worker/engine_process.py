"""The process that vLLM's engine core runs in, from both ends.

Written against vllm/v1/engine/core.py and utils.py of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection
from typing import Any

from torch.distributed import distributed_c10d
from vllm.config import VllmConfig
from vllm.v1.engine.core import EngineCoreProc
from vllm.v1.engine.core_client import AsyncMPClient, EngineCoreClient
from vllm.v1.executor import Executor

from worker.engine_failure import cause_of, exit_reason, one_line
from worker.errors import EngineNotStarted
from worker.lifeline import die_with
from worker.timer_slack import timer_slack

LAST_WORDS_SECONDS = 1.0
GLOO_SLACK_SECONDS = 1.0

run_vllm_engine_core = EngineCoreProc.run_engine_core


def start_core(config: VllmConfig) -> tuple[AsyncMPClient, Failures]:
    """Raises EngineNotStarted. Takes as long as loading the model does."""
    failures = Failures()
    try:
        with failures.watched():
            core = EngineCoreClient.make_async_mp_client(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=True,
            )
    except Exception as error:
        _, said = failures.read() or ("", None)
        reason = cause_of(error, said)
        raise EngineNotStarted(f"the engine did not start: {reason}") from error
    return core, failures


class Failures:
    """A pipe on which the engine's process says why it ends."""

    def __init__(self) -> None:
        self._reader, self._writer = Pipe(duplex=False)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Engine processes that start within write to this pipe, and die with us."""
        EngineCoreProc.run_engine_core = partial(run_engine_core, self._writer)
        try:
            yield
        finally:
            EngineCoreProc.run_engine_core = staticmethod(run_vllm_engine_core)
            self._writer.close()

    def read(self, timeout_seconds: float = 0.0) -> tuple[str, str] | None:
        """The kind of the error and what it says; None if the process said nothing."""
        try:
            return self._reader.recv() if self._reader.poll(timeout_seconds) else None
        except (EOFError, OSError):
            return None

    def reason(self, core: AsyncMPClient) -> str:
        """Of an engine that ran. Only the kind of error: its text might hold a prompt's tokens."""
        # vLLM tells of an engine's death before its process is at its end.
        if reported := self.read(LAST_WORDS_SECONDS):
            return f"{reported[0]}; its log says more"
        codes = core.resources.engine_manager.finished_procs().values()
        return next((exit_reason(code) for code in codes if code), "its process ended")


def run_engine_core(failures: Connection, *args: Any, **kwargs: Any) -> None:
    """The engine process's main function."""
    parent = parent_process()
    assert parent is not None and parent.pid is not None
    die_with(parent.pid)
    share_gloo_device()
    EngineCoreProc.baton_held_blocks = held_blocks
    try:
        run_vllm_engine_core(*args, **kwargs)
    except Exception as error:
        failures.send((type(error).__name__, one_line(error)))
        raise


def held_blocks(core: EngineCoreProc) -> bytes:
    """The packed keys of the blocks that the device's prefix cache holds."""
    keys: bytes = core.scheduler.held_blocks()
    return keys


def share_gloo_device() -> None:
    """One network thread for all of torch's process groups in this process.

    vLLM makes a dozen of them, needed or not, and each would wake up every 10 ms for ever:
    half a percent of a core. The one that is left may be woken late when nothing has come.
    """
    if not distributed_c10d.is_gloo_available():
        return
    gloo = distributed_c10d.ProcessGroupGloo
    with timer_slack(GLOO_SLACK_SECONDS):
        device = gloo.create_default_device()

    class SharingGloo(gloo):  # type: ignore[misc, valid-type]
        def __init__(self, store: object, rank: int, size: int, timeout: timedelta) -> None:
            options = gloo._Options()
            options._devices = [device]
            options._timeout = timeout
            super().__init__(store, rank, size, options)

    distributed_c10d.ProcessGroupGloo = SharingGloo
