"""The folder in which the processes of a gateway count together, for as long as it lives."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "baton-gateway-"
OWNER = "owner"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A new one; those of gateways that were killed are removed."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with (folder / "new").open("w") as owner:
            # Held until the last process is gone, and in its place only when it is held.
            fcntl.flock(owner, fcntl.LOCK_EX)
            (folder / "new").rename(folder / OWNER)
            yield folder


def remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
