"""vLLM's schedulers, less talkative, and telling of their blocks and their work.

Written against vllm/v1/core/sched of vLLM 0.32.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.metrics.stats import SchedulerStats

from worker.engine_blocks import BlockPublisher
from worker.engine_warm_up import WARM_UP
from worker.pieces import Pieces
from worker.work import Work

# In vLLM's additional_config.
ITL_GOAL = "baton_itl_goal_seconds"


class QuietScheduler(Scheduler):  # type: ignore[misc]
    """Reports only what has changed.

    While it waits for KV from elsewhere, an engine steps every millisecond. Without this,
    each such step would cost a message, and its decoding here.
    """

    max_num_scheduled_tokens: int
    _reported: tuple[int, int, float] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._work = Work()
        self._pieces = Pieces(self.vllm_config.additional_config.get(ITL_GOAL, 0.0))
        self._ended_at = 0.0
        self._started_at: dict[int, float] = {}
        self._publisher: BlockPublisher | None = None
        if self.kv_events_config is not None:
            self._publisher = BlockPublisher(self.kv_events_config.endpoint, self)
            self.kv_event_publisher = self._publisher

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        started_at = time.monotonic()
        with self._in_pieces():
            output = super().schedule(*args, **kwargs)
        if output.preempted_req_ids:
            self._work = self._work.with_preempted(len(output.preempted_req_ids))
        if output.total_num_scheduled_tokens:
            self._started_at[id(output)] = started_at
        return output

    def update_from_output(self, scheduler_output: SchedulerOutput, *args: Any) -> Any:
        started_at = self._started_at.pop(id(scheduler_output), None)
        if started_at is not None:
            self._note_step(scheduler_output, started_at)
        outputs = super().update_from_output(scheduler_output, *args)
        if started_at is not None and self._publisher:
            self._publisher.tell_work(self._work, is_last=not self.has_unfinished_requests())
        return outputs

    def held_blocks(self) -> bytes:
        return self._publisher.held() if self._publisher else b""

    @contextmanager
    def _in_pieces(self) -> Iterator[None]:
        """Beside running answers a step takes of prompts what their goal leaves room for."""
        num_prompts = sum(each.is_prefill_chunk for each in self.running)
        num_answers = len(self.running) - num_prompts
        most, longest = self.max_num_scheduled_tokens, self._longest_chunk
        limits = self._pieces.limits(most, longest or most, num_answers, num_prompts)
        self.max_num_scheduled_tokens, self._longest_chunk = limits
        try:
            yield
        finally:
            self.max_num_scheduled_tokens, self._longest_chunk = most, longest

    @property
    def _longest_chunk(self) -> int:
        return int(self.scheduler_config.long_prefill_token_threshold)

    @_longest_chunk.setter
    def _longest_chunk(self, num_tokens: int) -> None:
        self.scheduler_config.long_prefill_token_threshold = num_tokens

    def _note_step(self, output: SchedulerOutput, started_at: float) -> None:
        """Before the outputs are taken in: then it is still known who computes its prompt."""
        now = time.monotonic()
        seconds = now - max(started_at, self._ended_at)
        self._ended_at = now
        if all(name.startswith(WARM_UP) for name in output.num_scheduled_tokens):
            # It takes seconds for a few tokens, and tells nothing of how fast the worker is.
            return
        num_prefill = num_cached = 0
        new = {each.req_id: each.num_computed_tokens for each in output.scheduled_new_reqs}
        for request_id, num_tokens in output.num_scheduled_tokens.items():
            is_new = request_id in new
            if is_new:
                num_cached += new[request_id]
            # One token is as cheap as a next one: the last of a prompt that was computed elsewhere.
            if num_tokens > 1 and (
                is_new or output.scheduled_cached_reqs.is_context_phase(request_id)
            ):
                num_prefill += num_tokens
        num_decode = output.total_num_scheduled_tokens - num_prefill
        self._work = self._work.after_step(seconds, num_prefill, num_decode)
        self._pieces.note(seconds, num_prefill, num_decode)
        if num_cached:
            self._work = self._work.with_cached(num_cached)

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
