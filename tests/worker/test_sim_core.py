from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.sim_stage import (
    BLOCK_SIZE,
    BYTES_PER_TOKEN,
    LIMITS,
    NUM_LAYERS,
    PROFILE,
    SLOW_BANDWIDTH,
    Stage,
    key_maker,
    ticket_of,
)
from worker.sim.limits import SimLimits
from worker.sim.request import Task

MANY = SimLimits(num_blocks=400, block_size=8, max_model_len=1600, max_batch_tokens=400)
LONG = list(range(1, 101))


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """Often with a beginning in common."""
    shared = draw(st.integers(0, 40))
    return [*range(shared), *draw(st.lists(st.integers(0, 3), min_size=2, max_size=60))]


@st.composite
def plots(draw: st.DrawFn) -> list[tuple[float, str, list[int], int]]:
    """What is asked for, and when."""
    kinds = ("pair", "pair", "pair", "local d", "local p", "decode_leg", "late_prefill")
    ask = st.tuples(st.floats(0, 2), st.sampled_from(kinds), prompts(), st.integers(1, 40))
    return draw(st.lists(ask, min_size=1, max_size=14))


@st.composite
def interruptions(draw: st.DrawFn) -> list[tuple[float, str, int]]:
    kinds = ("abort d", "abort p", "revoke d", "revoke p", "part")
    one = st.tuples(st.floats(0, 4), st.sampled_from(kinds), st.integers(0, 13))
    return draw(st.lists(one, max_size=8))


def play(stage: Stage, plot: list[tuple[float, str, list[int], int]]) -> None:
    for number, (when, kind, prompt, num_tokens) in enumerate(plot):
        match kind:
            case "pair":
                stage.at(when, partial(stage.pair, number, prompt, num_tokens))
            case "local d" | "local p":
                stage.at(when, partial(stage.local, f"{kind[-1]}-{number}", prompt, num_tokens))
            case "decode_leg":  # its prefill never comes; the lease ends it
                stage.at(when, partial(stage.decode_leg, number, prompt, num_tokens))
                stage.at(when + 1, partial(stage.d.revoke, ticket_of(number)))
            case "late_prefill":
                stage.at(when, partial(stage.decode_leg, number, prompt, num_tokens))
                stage.at(when + 0.3, partial(stage.prefill_leg, number, prompt))


def interrupt(stage: Stage, breaks: list[tuple[float, str, int]]) -> set[str]:
    """The names of those that are aborted."""
    for when, kind, number in breaks:
        match kind:
            case "abort d" | "abort p":
                stage.at(when, partial(stage.abort, f"{kind[-1]}-{number}"))
            case "revoke d":
                stage.at(when, partial(stage.d.revoke, ticket_of(number)))
            case "revoke p":
                stage.at(when, partial(stage.p.revoke, ticket_of(number)))
            case "part":
                stage.at(when, partial(stage.d.part, [b"p"]))
    return {f"{kind[-1]}-{number}" for _, kind, number in breaks if kind.startswith("abort")}


@settings(max_examples=150, deadline=None)
@given(plots(), interruptions(), st.sampled_from([PROFILE.bandwidth, SLOW_BANDWIDTH]))
def test_no_token_is_wrong_whatever_happens(
    plot: list[tuple[float, str, list[int], int]],
    breaks: list[tuple[float, str, int]],
    bandwidth: float,
) -> None:
    stage = Stage(profile=PROFILE.with_bandwidth(bandwidth))
    play(stage, plot)
    aborted = interrupt(stage, breaks)
    stage.run(60)
    for number in range(len(plot)):  # what nobody fetches is kept until its lease ends
        stage.p.revoke(ticket_of(number))
    stage.run()
    assert stage.wrong() == []
    assert stage.prompts.keys() - stage.ended <= aborted
    assert stage.p.pool.num_held == stage.d.pool.num_held == 0


def test_preempted_requests_are_computed_again() -> None:
    stage = Stage()
    for number in range(4):
        stage.local(f"d-{number}", LONG[:60], 90)
    stage.run()
    assert stage.d.work.preemptions > 0
    assert stage.wrong() == []


def test_what_lies_in_the_cache_is_not_computed_again() -> None:
    stage = Stage(MANY)
    stage.local("d-0", LONG, 1)
    stage.run()
    assert stage.d.work.prefill_tokens == 100
    stage.local("d-1", LONG, 1)
    stage.run()
    assert stage.d.work.prefill_tokens == 104
    assert stage.d.work.cached_tokens == 96
    assert stage.wrong() == []


def test_the_last_token_is_computed_even_if_all_is_cached() -> None:
    stage = Stage(MANY)
    for name in ("d-0", "d-1"):
        stage.local(name, LONG[:96], 3)
        stage.run()
    assert stage.d.work.cached_tokens == 88
    assert stage.wrong() == []


def test_a_load_that_is_given_up_leaves_its_blocks_to_others() -> None:
    stage = Stage(MANY, PROFILE.with_bandwidth(SLOW_BANDWIDTH))
    stage.pair(1, LONG, 5)
    stage.run(0.2)
    stage.abort("d-1")
    stage.local("d-2", LONG[::-1], 40)
    stage.run()
    assert stage.d.port.num_late == 1
    assert stage.wrong() == []


def test_blocks_that_a_source_loses_are_computed_and_sent_again() -> None:
    limits = SimLimits(20, 8, 160, max_batch_tokens=16, max_chunk_tokens=4)
    stage = Stage(limits, PROFILE.with_bandwidth(SLOW_BANDWIDTH))
    stage.local("p-0", [1, 2], 120)
    while len(stage.got["p-0"]) < 45:
        stage.run(stage.clock.now + 0.01)
    stage.pair(1, LONG, 5)
    stage.run()
    assert stage.p.work.preemptions == 1
    assert stage.p.port.sent_bytes == 99 * BYTES_PER_TOKEN
    assert stage.wrong() == []


def test_answers_are_cached_too() -> None:
    stage = Stage(MANY)
    stage.local("d-0", LONG, 60)
    stage.run()
    stage.local("d-1", [*LONG, *stage.got["d-0"], 7, 7], 2)
    stage.run()
    assert stage.d.work.cached_tokens == 19 * BLOCK_SIZE
    assert stage.wrong() == []


def test_only_what_is_lacking_is_moved() -> None:
    stage = Stage(MANY)
    stage.local("d-0", LONG[:50], 1)
    stage.run()
    stage.pair(1, LONG, 5)
    stage.run()
    assert stage.d.port.received_bytes == stage.p.port.sent_bytes == (99 - 48) * 100
    assert stage.wrong() == []
    assert stage.d.work.prefill_tokens == 50 + 1


def test_nothing_is_moved_when_nothing_is_lacking() -> None:
    stage = Stage(MANY)
    stage.local("d-0", LONG[:97], 1)
    stage.run()
    stage.pair(1, LONG[:97], 5)
    stage.run()
    assert stage.p.port.sent_bytes == 0
    assert stage.p.tally.sends_completed == 1
    assert stage.p.pool.num_held == 0
    assert stage.wrong() == []


def test_only_the_last_layer_is_waited_for() -> None:
    stage = Stage(MANY)
    stage.pair(1, LONG, 1)
    stage.run()
    (prefilled,), (answered,) = stage.times["p-1"], stage.times["d-1"]
    assert prefilled == pytest.approx(0.01 + 100 * 0.001)
    exposed = 99 * 100 / NUM_LAYERS / PROFILE.bandwidth + PROFILE.latency_seconds
    assert stage.p.tally.exposed_seconds == pytest.approx(exposed)
    assert answered == pytest.approx(prefilled + exposed + 0.01 + 0.001)


def test_kv_that_is_there_already_takes_its_time() -> None:
    stage = Stage(MANY)
    stage.prefill_leg(1, LONG)
    stage.run()
    assert stage.p.pool.num_held == 13
    began = stage.clock.now
    stage.decode_leg(1, LONG, 1)
    stage.run()
    took = 99 * 100 / PROFILE.bandwidth + PROFILE.latency_seconds
    assert stage.d.tally.load_seconds == pytest.approx(took)
    assert stage.times["d-1"] == [pytest.approx(began + took + 0.011)]
    assert stage.p.pool.num_held == 0


def test_long_prompts_come_in_chunks_beside_what_runs() -> None:
    stage = Stage(SimLimits(400, 8, 1600, 4, max_batch_tokens=50, max_chunk_tokens=40))
    stage.local("d-0", [1, 2], 50)
    stage.run(0.05)
    stage.local("d-1", LONG, 2)
    stage.run()
    gaps = [b - a for a, b in zip(stage.times["d-0"], stage.times["d-0"][1:], strict=False)]
    assert max(gaps) == pytest.approx(0.01 + 0.002 + 40 * 0.001)
    assert stage.d.work.mixed_steps == 3
    assert stage.d.work.mixed_prefill_tokens == 100
    assert stage.wrong() == []


def test_beside_answers_prompts_come_in_pieces_that_their_goal_allows() -> None:
    limits = SimLimits(400, 8, 1600, 4, max_batch_tokens=50, max_chunk_tokens=40)
    stage = Stage(replace(limits, itl_goal_seconds=0.03))
    stage.local("d-0", [1, 2], 60)
    stage.run(0.05)
    stage.local("d-1", LONG, 1)
    stage.run(0.5)
    known = len(stage.times["d-0"])
    assert "d-1" in stage.ended
    for number in (2, 3):
        stage.local(f"d-{number}", [number, *LONG], 1)
    stage.run()
    times = stage.times["d-0"][known - 1 :]
    gaps = [b - a for a, b in pairwise(times)]
    assert 0.02 < max(gaps) < 0.03 + 0.001
    assert stage.wrong() == []


def test_no_more_run_than_may() -> None:
    stage = Stage()
    for number in range(6):
        stage.local(f"d-{number}", [number, 1], 5)
    stage.run(0.02)
    assert (stage.d.num_running, stage.d.num_waiting) == (4, 2)
    stage.run()
    assert stage.wrong() == []


def test_a_stop_token_ends_an_answer() -> None:
    stage = Stage()
    stage.local("d-0", [1, 2, 3], 30)
    stage.run()
    tokens = stage.got["d-0"]
    stage.d.submit(
        Task("d-9", [1, 2, 3], 30, key_maker(), min_tokens=3, stop_tokens=frozenset(tokens[:6]))
    )
    stage.run()
    assert stage.got["d-9"] == tokens[:3]


@pytest.mark.parametrize("side", ["p", "d"])
def test_a_revoked_hand_off_is_computed_by_the_decode_worker(side: str) -> None:
    stage = Stage(MANY)
    stage.pair(1, LONG, 5)
    stage.run(0.05)
    assert (stage.p if side == "p" else stage.d).revoke(ticket_of(1))
    assert not stage.d.revoke(ticket_of(1))
    stage.run()
    assert stage.wrong() == []
    assert stage.d.work.prefill_tokens == 100
    assert stage.d.tally.failures == {"load_revoked": 1}
    assert stage.p.tally.failures == {"send_revoked": 1}


def spoilt(stage: Stage) -> list[str]:
    stage.run()
    return stage.wrong()


def test_spoilt_kv_shows() -> None:
    stage = Stage()
    stage.local("d-0", LONG, 30)
    stage.run(0.3)
    before, after = stage.d.pool.contents[2]
    stage.d.pool.write(2, (before, after + 1))
    assert spoilt(stage) == ["d-0"]


def test_swapped_blocks_show() -> None:
    stage = Stage()
    stage.local("d-0", LONG, 30)
    stage.run(0.3)
    contents = stage.d.pool.contents
    first, second = contents[3], contents[4]
    stage.d.pool.write(3, second)
    stage.d.pool.write(4, first)
    assert spoilt(stage) == ["d-0"]


def test_a_lost_block_shows() -> None:
    stage = Stage()
    copy = stage.fabric._copy
    stage.fabric._copy = (  # type: ignore[method-assign]
        lambda source, load, index: copy(source, load, index) if index != 5 else None
    )
    stage.pair(1, LONG, 10)
    assert spoilt(stage) == ["d-1"]


def test_blocks_that_are_given_away_before_they_are_sent_show() -> None:
    stage = Stage()
    stage.prefill_leg(1, LONG)
    stage.run()
    (request,) = stage.p.sends.values()
    blocks = list(request.context.blocks)
    for block in blocks:  # as if they were another's by now
        stage.p.pool.write(block, (1, 2))
    stage.decode_leg(1, LONG, 10)
    assert spoilt(stage) == ["d-1"]


def test_a_cache_too_small_for_one_request_is_refused() -> None:
    with pytest.raises(ValueError, match="4 blocks of 8 tokens have no room for the 160 tokens"):
        SimLimits(num_blocks=4, block_size=8, max_model_len=160)
    assert LIMITS.num_blocks * LIMITS.block_size >= LIMITS.max_model_len
