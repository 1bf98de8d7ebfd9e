"""Agents share few system prompts, unevenly, and add a little of their own."""

from __future__ import annotations

from collections import Counter

from loadtest.replay.agents import Agents

TRACE = Agents(requests=500, prompts=4, system=1000, fresh=3, block=50, output=9, rate=100.0)


def test_requests_share_prompts_and_add_blocks() -> None:
    requests = TRACE.make(seed=3)
    shared = Counter(request.prompt[0].key for request in requests)
    assert len(shared) == 4
    assert len({request.prompt[1].key for request in requests}) == 500
    assert {request.prompt[1].num_tokens for request in requests} == {50, 100, 150}
    assert {request.num_output_tokens for request in requests} == {9}
    most, *_, least = sorted(shared.values(), reverse=True)
    assert 3 < most / least < 6


def test_they_arrive_at_the_rate() -> None:
    times = [request.at_seconds for request in TRACE.make(seed=3)]
    assert times == sorted(times)
    assert 4 < times[-1] < 6
