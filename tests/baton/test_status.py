from __future__ import annotations

import pytest

from baton.banner import banner
from baton.status import duration, size
from baton.table import render


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (45_200_000, "45.2 MB"), (2e15, "2000.0 TB")],
)
def test_sizes_are_told_in_the_unit_that_fits(num_bytes: float, words: str) -> None:
    assert size(num_bytes) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(5.9, "5 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert render(("a", "b"), [("long", "1"), ("", "22")]) == ["a     b", "long  1", "      22"]


def test_the_banner_can_be_pasted() -> None:
    shown = banner("http://127.0.0.1:8000", "tiny")
    assert '-d \'{"model": "tiny", "messages": [{"role": "user"' in shown
    compile(shown[shown.index("from openai") :], "snippet", "exec")
