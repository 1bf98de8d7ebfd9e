"""The fleet's key: made for a run, or made once for a fleet that outlives its runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baton.errors import BadSettings
from proto.fleet_key import BadFleetKey, FleetKey

OWNERS_ALONE = 0o600


@contextmanager
def key_of_run(given: Path | None, own: Path) -> Iterator[Path]:
    """The file of the key that all processes of a run share: the one `given`, or a new one at
    `own`, which is gone afterwards. Raises BadSettings.
    """
    if given is not None:
        yield checked(given)
        return
    try:
        write_key(own)
        yield own
    finally:
        own.unlink(missing_ok=True)


def checked(path: Path) -> Path:
    """Absolute. Raises BadSettings."""
    try:
        FleetKey.read(path)
    except BadFleetKey as error:
        raise BadSettings(f"--fleet-key-file: {error}") from error
    return path.absolute()


def write_key(path: Path) -> None:
    """A new key, in a new file for its owner alone. Raises BadSettings."""
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNERS_ALONE)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{FleetKey.new().to_hex()}\n")
    except OSError as error:
        raise BadSettings(f"{path}: no fleet key can be written: {error.strerror}") from error


def show_key(descriptor: int) -> None:
    """A new key for whatever stands behind an open file; if it is a file on a disk, from then
    on its owner alone can read it.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fchmod(descriptor, OWNERS_ALONE)
    os.write(descriptor, f"{FleetKey.new().to_hex()}\n".encode())
