"""Numbers as people read them."""

from __future__ import annotations

UNKNOWN = "-"


def count(number: float | None) -> str:
    """ "12,345"."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def percent(share: float | None) -> str:
    """ "41.3%"."""
    return UNKNOWN if share is None else f"{share:.1%}"


def span(seconds: float | None) -> str:
    """ "85 µs", "12.5 ms", "340 ms", "2.4 s"."""
    if seconds is None:
        return UNKNOWN
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if abs(seconds) * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if abs(seconds) < 99.5 else f"{seconds:,.0f} s"


def difference(seconds: float | None) -> str:
    """With its sign: "+12 ms"."""
    return UNKNOWN if seconds is None else f"{'+' if seconds >= 0 else ''}{span(seconds)}"
