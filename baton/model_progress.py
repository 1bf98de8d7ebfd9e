"""Who is told how far a model has come."""

from __future__ import annotations

from collections.abc import Callable

# Takes one line of text for people, now and then.
Progress = Callable[[str], None]
