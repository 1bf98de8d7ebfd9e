"""A plot is saved for what a replay may bring, and a bad name is refused before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.replay.errors import BadInput
from loadtest.replay.plot import check_plot, save_plot
from tests.loadtest.replay.make_result import make_result, untold


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_runs_are_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"plot.{suffix}"
    check_plot(path)
    save_plot(path, "a trace", [make_result("prefix"), make_result("rr", slowness=9.0)])
    assert path.stat().st_size > 10_000


def test_a_run_that_tells_little_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    save_plot(path, "a trace", [untold(make_result(error="timeout"))])
    assert "the workers do not tell" in path.read_text()


def test_another_ending_is_refused() -> None:
    with pytest.raises(BadInput, match=r"a file ending in \.svg, \.png, \.pdf, not plot\.txt"):
        check_plot(Path("plot.txt"))
