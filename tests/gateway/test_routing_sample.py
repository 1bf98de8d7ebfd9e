from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.routing.filters import FILTERS
from gateway.routing.pickers import PICKERS
from gateway.routing.policy import POLICIES, read_policy
from gateway.routing.scorers import SCORERS

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "routing.sample.yaml"
MANUAL = (ROOT / "docs" / "routing.md").read_text()


def test_the_sample_file_is_the_default_policy() -> None:
    assert read_policy(str(SAMPLE)) == POLICIES["default"]


@pytest.mark.parametrize(
    ("heading", "known"),
    [("filter", FILTERS), ("scorer", SCORERS), ("picker", PICKERS), ("policy", POLICIES)],
)
def test_the_manual_lists_what_there_is(heading: str, known: Iterable[str]) -> None:
    table = MANUAL.partition(f"| {heading} |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE) == list(known)
