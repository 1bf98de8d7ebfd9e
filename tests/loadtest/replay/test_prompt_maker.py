"""Prompts are made of their spans' keys, and the JSON of the same tokens."""

from __future__ import annotations

import json

import pytest

from loadtest.replay.prompt_maker import PromptMaker
from loadtest.replay.trace import Span, TraceRequest


def request(*spans: Span) -> TraceRequest:
    return TraceRequest(0.0, spans, 1)


def test_the_same_key_gives_the_same_tokens_anywhere() -> None:
    first = PromptMaker().tokens(request(Span(1, 32), Span(2, 32)))
    second = PromptMaker().tokens(request(Span(3, 8), Span(2, 32)))
    assert first[32:].tolist() == second[8:].tolist()


def test_keys_and_seeds_tell_tokens_apart() -> None:
    spans = [(key, seed) for key in (0, 1, 2**64 - 1) for seed in (0, 1)]
    made = {tuple(PromptMaker(seed=seed).span_tokens(Span(key, 8))) for key, seed in spans}
    assert len(made) == 6


def test_a_shorter_span_is_the_head_of_a_longer_one() -> None:
    maker = PromptMaker()
    assert maker.span_tokens(Span(7, 5)).tolist() == maker.span_tokens(Span(7, 9)).tolist()[:5]


def test_tokens_fill_the_vocabulary_and_stay_inside() -> None:
    tokens = PromptMaker(range(50, 60)).span_tokens(Span(1, 2000))
    assert set(tokens.tolist()) == set(range(50, 60))


def test_tokens_are_the_same_in_every_release() -> None:
    assert PromptMaker().span_tokens(Span(12, 4)).tolist() == [6806, 19900, 7614, 12701]


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        pytest.param([[5, 6, 7]], [5, 6, 7], id="whole"),
        pytest.param([[5]], [5], id="short"),
        pytest.param([[5, 6, 7, 8]], [5, 6, 7], id="long"),
        pytest.param([[]], None, id="failed"),
        pytest.param([], None, id="unknown"),
    ],
)
def test_an_answer_stands_where_its_turn_does(
    answers: list[list[int]], known: list[int] | None
) -> None:
    maker = PromptMaker()
    span = Span(9, 3, turn=0)
    expected = known or maker.span_tokens(span).tolist()
    prompt = request(Span(1, 2), span, Span(2, 1))
    tokens = maker.tokens(prompt, answers).tolist()
    assert tokens[2:-1] == expected
    assert json.loads(maker.text(prompt, answers)) == tokens
