"""Azure's rows become requests with fresh prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.replay.azure import parse_azure, read_azure
from loadtest.replay.errors import BadInput

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"
FIRST = "2023-11-16 18:17:03.9799600,4808,10"


def test_rows_are_requests_with_prompts_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(f"{HEAD}\r\n{FIRST}\r\n2023-11-16 18:17:04.4799600,4808,0\r\n")
    first, second = read_azure(file)
    assert (first.at_seconds, first.num_prompt_tokens, first.num_output_tokens) == (0, 4808, 10)
    assert second.at_seconds == pytest.approx(0.5)
    assert second.num_output_tokens == 1
    assert first.prompt[0].key != second.prompt[0].key


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        pytest.param([], "line 1: no column TIMESTAMP, ContextTokens", id="nothing"),
        pytest.param(["TIMESTAMP,Tokens"], "line 1: no column ContextTokens", id="columns"),
        pytest.param([HEAD, "yesterday,1,1"], "line 2: .*yesterday", id="time"),
        pytest.param([HEAD, FIRST, f"{FIRST}x"], "line 3: .*10x", id="number"),
        pytest.param([HEAD, FIRST.replace("4808", "-1")], "line 2: .*below 0", id="negative"),
        pytest.param([HEAD, "2023-11-16 18:17:03,5"], "line 2: ", id="short"),
    ],
)
def test_a_bad_row_is_named(lines: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=f"^trace, {complaint}"):
        list(parse_azure(lines, "trace"))
