"""A streamed answer is read in whatever pieces it comes."""

from __future__ import annotations

import pytest

from loadtest.replay.answer import StreamedAnswer

STREAM = (
    b'data: {"id": "x", "choices": [{"index": 0, "text": "a", "token_ids": [7]}]}\n\n'
    b'data: {"choices": [{"text": "", "token_ids": [8, 9], "logprobs": null}]}\r\n\r\n'
    b': comment\n\ndata: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, '
    b'"prompt_tokens_details": {"cached_tokens": 4}}}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_pieces_make_an_answer(size: int) -> None:
    answer = StreamedAnswer()
    for start in range(0, len(STREAM), size):
        answer.feed(200, STREAM[start : start + size])
    assert (answer.token_ids, answer.num_events, answer.num_tokens) == ([7, 8, 9], 2, 3)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer.is_complete
    assert not answer.error


def test_without_usage_events_are_counted() -> None:
    answer = StreamedAnswer()
    answer.feed(200, b'data: {"choices": [{"text": "a"}]}\n' * 3)
    assert (answer.num_tokens, len(answer.gaps), answer.is_complete) == (3, 2, False)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"full\nup", "HTTP 503: full up"),
        (503, b'{"error": {"message": "full"}}', "HTTP 503: full"),
        (200, b'data: {"error": {"message": "worker w-1 is lost"}}\n', "error event: worker # is"),
        (200, b"data: {\n", "event is not JSON"),
    ],
)
def test_errors_are_named(status: int, body: bytes, error: str) -> None:
    answer = StreamedAnswer()
    answer.feed(status, body)
    assert answer.error.startswith(error)
