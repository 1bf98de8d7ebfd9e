"""Conversations grow turn by turn, answers included, and share system prompts in groups."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from loadtest.replay.multi_turn import MultiTurn
from loadtest.replay.trace import TraceRequest

TRACE = MultiTurn(sessions=6, turns=4, groups=2, system=100, user=20, answer=10, think=2.0)


def sessions(requests: list[TraceRequest]) -> list[list[TraceRequest]]:
    found = defaultdict(list)
    for request in requests:
        found[request.session].append(request)
    return list(found.values())


def test_each_turn_holds_all_before_it() -> None:
    talks = sessions(TRACE.make(seed=1))
    assert [len(talk) for talk in talks] == [4] * 6
    for talk in talks:
        for turn, (before, after) in enumerate(pairwise(talk)):
            *history, answer, _ = after.prompt
            assert tuple(history) == before.prompt
            assert (answer.turn, answer.num_tokens) == (turn, before.num_output_tokens)


def test_groups_share_a_system_prompt() -> None:
    talks = sessions(TRACE.make(seed=1))
    assert len({talk[0].prompt[0] for talk in talks}) == 2
    assert len({talk[0].prompt[1].key for talk in talks}) == 6


def test_users_think_between_turns() -> None:
    for first, *later in sessions(TRACE.make(seed=1)):
        assert first.think_seconds == 0
        assert all(request.think_seconds > 0 for request in later)


def test_a_seed_gives_the_same_trace_again() -> None:
    assert TRACE.make(seed=1) == TRACE.make(seed=1) != TRACE.make(seed=2)
