"""Azure's LLM inference traces: times and lengths as CSV, so that every prompt is fresh.

https://github.com/Azure/AzurePublicDataset.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from loadtest.replay.errors import BadInput
from loadtest.replay.trace import Span, TraceRequest, key_of

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(path: Path) -> list[TraceRequest]:
    """Raises BadInput, OSError."""
    with path.open(newline="") as file:
        return list(parse_azure(file, str(path)))


def parse_azure(lines: Iterable[str], name: str) -> Iterator[TraceRequest]:
    """Raises BadInput."""
    rows = csv.DictReader(lines)
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise BadInput(f"{name}, line 1: no column {', '.join(missing)}")
    start: float | None = None
    for row in rows:
        try:
            seconds, prompt, output = (row[column] for column in COLUMNS)
            now = datetime.fromisoformat(seconds).timestamp()
            num_prompt_tokens, num_output_tokens = int(prompt), int(output)
            if min(num_prompt_tokens, num_output_tokens) < 0:
                raise ValueError("a length is below 0")
        except (TypeError, ValueError) as error:
            raise BadInput(f"{name}, line {rows.line_num}: {error}") from error
        start = now if start is None else start
        span = Span(key_of("azure", rows.line_num), max(1, num_prompt_tokens))
        yield TraceRequest(now - start, (span,), max(1, num_output_tokens))
