"""A soak notices what grows, what is left and what was not moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.suites.levels import Level
from tests.suites.soak_report import changed

LEVEL = Level(
    rss_bytes=1000,
    anonymous_bytes=800,
    num_threads=5,
    num_descriptors=30,
    num_sockets=7,
    num_segments=2,
)


def test_what_stays_is_no_problem() -> None:
    small = replace(LEVEL, rss_bytes=1019, anonymous_bytes=785, num_threads=4)
    assert list(changed("engine", LEVEL, small)) == []


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (replace(LEVEL, rss_bytes=1021), "engine: memory"),
        (replace(LEVEL, rss_bytes=970), "engine: memory"),
        (replace(LEVEL, anonymous_bytes=820), "engine: memory without files"),
        (replace(LEVEL, num_threads=6), "engine: 5 threads became 6"),
        (replace(LEVEL, num_descriptors=31), "engine: 30 descriptors became 31"),
        (replace(LEVEL, num_sockets=8), "engine: 7 sockets became 8"),
        (replace(LEVEL, num_segments=3), "engine: 2 segments became 3"),
    ],
)
def test_what_changes_is_one_problem(after: Level, problem: str) -> None:
    (found,) = changed("engine", LEVEL, after)
    assert found.startswith(problem)
