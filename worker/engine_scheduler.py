"""vLLM's schedulers, less talkative. Written against vllm/v1/core/sched of vLLM 0.32."""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.metrics.stats import SchedulerStats


class QuietScheduler(Scheduler):  # type: ignore[misc]
    """Reports only what has changed.

    While it waits for KV from elsewhere, an engine steps every millisecond. Without this,
    each such step would cost a message, and its decoding here.
    """

    _reported: tuple[int, int, float] | None = None

    def make_stats(
        self,
        spec_decoding_stats: object = None,
        kv_connector_stats: object = None,
        *args: object,
        **kwargs: object,
    ) -> SchedulerStats | None:
        state = (*self.get_request_counts(), self.get_kv_cache_usage())
        if state == self._reported and kv_connector_stats is None:
            return None
        self._reported = state
        return super().make_stats(spec_decoding_stats, kv_connector_stats, *args, **kwargs)


class QuietAsyncScheduler(QuietScheduler, AsyncScheduler):  # type: ignore[misc]
    """The same over vLLM's scheduler for asynchronous execution."""
