"""What workers did is the growth of their counters."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.replay.worker_work import (
    counted_share,
    load_spreads,
    num_computed_tokens,
    work_between,
)


def row(worker: str, role: str, incarnation: str = "a", **load: Any) -> dict[str, Any]:
    return {"worker_id": worker, "role": role, "incarnation": incarnation, "load": load}


def test_hits_are_counted_where_prompts_are_computed() -> None:
    before = [row("p", "prefill", num_cached_tokens=100, num_computed_tokens=50)]
    after = [
        row("p", "prefill", num_cached_tokens=130, num_computed_tokens=60),
        row("d", "decode", num_cached_tokens=900, num_computed_tokens=1),
    ]
    assert counted_share(work_between(before, after)) == pytest.approx(30 / 40)
    assert counted_share(work_between([], after[1:])) == pytest.approx(900 / 901)


def test_a_worker_that_started_anew_counts_from_zero() -> None:
    before = [row("p", "prefill", "a", busy_seconds=9.0)]
    (work,) = work_between(before, [row("p", "prefill", "b", busy_seconds=2.0)])
    assert work.busy_seconds == 2.0


def test_spread_is_the_busiest_over_the_mean_of_its_role() -> None:
    after = [
        row("p0", "prefill", busy_seconds=3.0),
        row("p1", "prefill", busy_seconds=1.0),
        row("d0", "decode", busy_seconds=5.0),
        row("x", "idle", busy_seconds=0.0),
    ]
    assert load_spreads(work_between([], after)) == {"prefill": 1.5, "decode": 1.0}


def test_workers_that_do_not_tell_are_left_out() -> None:
    work = work_between([], [row("p", "prefill", num_kv_blocks=7)])
    assert (work[0].num_kv_blocks, counted_share(work), load_spreads(work)) == (7, None, {})


WORK = {
    "prefill_seconds": 2.0,
    "decode_seconds": 1.0,
    "mixed_seconds": 0.5,
    "prefill_tokens": 60,
    "mixed_prefill_tokens": 10,
    "cached_tokens": 30,
}


def test_counters_by_kinds_of_steps_are_summed() -> None:
    before = [row("p", "prefill", work={**WORK, "decode_seconds": 0.5, "prefill_tokens": 40})]
    (work,) = work_between(before, [row("p", "prefill", work=WORK)])
    assert (work.busy_seconds, work.num_computed_tokens, work.num_cached_tokens) == (0.5, 20, 0)


def test_computed_tokens_are_of_all_workers_or_unknown() -> None:
    after = [row("p", "prefill", work=WORK), row("d", "decode", num_computed_tokens=5)]
    assert num_computed_tokens(work_between([], after)) == 75
    assert num_computed_tokens(work_between([], [*after, row("x", "decode")])) is None
    assert num_computed_tokens([]) is None
