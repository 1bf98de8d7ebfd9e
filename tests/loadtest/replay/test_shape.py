"""A trace can be made smaller and faster without losing its structure."""

from __future__ import annotations

import pytest

from loadtest.replay.shape import Shape, cut
from loadtest.replay.trace import Span, TraceRequest


def request(at_seconds: float, *sizes: int) -> TraceRequest:
    spans = tuple(Span(key, size) for key, size in enumerate(sizes))
    return TraceRequest(at_seconds, spans, 100, think_seconds=3.0)


def sizes(request: TraceRequest) -> list[int]:
    return [span.num_tokens for span in request.prompt]


@pytest.mark.parametrize("scale", [1, 3, 16, 100, 512])
def test_scaled_blocks_stay_equal_and_the_last_no_longer(scale: float) -> None:
    (scaled,) = Shape(scale=scale).apply([request(0, 512, 512, 77)])
    first, second, last = sizes(scaled)
    assert first == second == -(-512 // scale)
    assert 0 < last <= first


def test_times_shrink_with_speed() -> None:
    first, second = Shape(speed=10).apply([request(25, 1), request(5, 1)])
    assert (first.at_seconds, second.at_seconds) == (0, 2)
    assert first.think_seconds == pytest.approx(0.3)


def test_the_earliest_are_kept() -> None:
    trace = [request(at, 1) for at in (4, 2, 0, 6)]
    assert [x.at_seconds for x in Shape(num_requests=2).apply(trace)] == [0, 2]
    assert [x.at_seconds for x in Shape(speed=2, seconds=2).apply(trace)] == [0, 1, 2]
    assert Shape().apply([]) == []


def test_long_prompts_are_cut_so_that_the_answer_fits() -> None:
    (shaped,) = Shape(max_tokens=150).apply([request(0, 30, 30, 30)])
    assert (sizes(shaped), shaped.num_output_tokens) == ([30, 30, 15], 75)


def test_a_cut_keeps_the_head() -> None:
    prompt = (Span(1, 10), Span(2, 10), Span(3, 10))
    assert cut(prompt, 10) == (Span(1, 10),)
    assert cut(prompt, 15) == (Span(1, 10), Span(2, 5))
    assert cut(prompt, 99) == prompt
