"""Where the processes of a suite write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def log_folder(given: Path | None) -> Iterator[Path]:
    """The one `given`, which stays, or one that is removed afterwards."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="baton-suite-") as folder:
        yield Path(folder)
