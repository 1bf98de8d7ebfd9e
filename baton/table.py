"""Rows of text under headings."""

from __future__ import annotations

from collections.abc import Sequence


def render(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """One line each, columns as wide as their widest cell."""
    lines = [heading, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
