"""Mooncake's lines become requests with the blocks that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.replay.errors import BadInput
from loadtest.replay.mooncake import parse_mooncake, read_mooncake
from loadtest.replay.trace import Span, TraceRequest

LINE = b'{"timestamp": 250, "input_length": 1100, "output_length": 7, "hash_ids": [4, 9, 5]}\n'


def test_a_line_is_a_request(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_bytes(LINE + b"\n")
    spans = (Span(4, 512), Span(9, 512), Span(5, 76))
    assert read_mooncake(file) == [TraceRequest(0.25, spans, 7)]


def test_an_answer_has_at_least_one_token() -> None:
    line = LINE.replace(b'"output_length": 7', b'"output_length": 0')
    assert next(iter(parse_mooncake([line], "t"))).num_output_tokens == 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        pytest.param(b"[4, 9, 5]", b"[4, 9]", "1100 tokens are 3 blocks, not 2", id="blocks"),
        pytest.param(b"1100", b"0", "too small", id="empty"),
        pytest.param(b"250", b"-1", "too small", id="early"),
        pytest.param(b"250", b'"x"', "timestamp", id="time"),
        pytest.param(b'"hash_ids"', b'"hashes"', "hash_ids", id="missing"),
        pytest.param(LINE, b"{", "truncated", id="JSON"),
    ],
)
def test_a_bad_line_is_named(old: bytes, new: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=f"^trace, line 2: .*{complaint}"):
        list(parse_mooncake([LINE, LINE.replace(old, new)], "trace"))
