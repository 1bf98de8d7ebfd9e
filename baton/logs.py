"""`baton logs`: what the processes of a run have written."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from baton.console import Console
from baton.errors import BadSettings
from baton.log_file import LogFile
from baton.run_folder import RunFolder

FOLLOW_SECONDS = 0.2
CHUNK_BYTES = 1024 * 1024


def logs(
    folder: RunFolder, console: Console, names: list[str], num_lines: int, is_followed: bool
) -> int:
    """The last lines of each log. Raises BadSettings if there is no log of a name."""
    chosen = choose(folder, names)
    if not chosen:
        console.line(f"There are no logs in {folder.logs}")
    offsets = {path: LogFile(path).size() for path in chosen}
    for path in chosen:
        lines = LogFile(path).tail().decode(errors="replace").splitlines()[-num_lines:]
        show(console, path, lines if num_lines else [])
    while is_followed:
        time.sleep(FOLLOW_SECONDS)
        for path in offsets:
            offsets[path] = follow(console, path, offsets[path])
    return 0


def choose(folder: RunFolder, names: list[str]) -> list[Path]:
    found = {path.stem: path for path in sorted(folder.logs.glob("*.log"))}
    for name in names:
        if name not in found:
            raise BadSettings(f"there is no log of {name}; there are: {', '.join(found) or 'none'}")
    return [found[name] for name in names or found]


def follow(console: Console, path: Path, offset: int) -> int:
    """Shows the whole lines from `offset` on; the offset behind them."""
    log = LogFile(path)
    if log.size() < offset:
        offset = 0  # it was emptied
    whole, newline, _ = log.tail(CHUNK_BYTES, offset).rpartition(b"\n")
    show(console, path, whole.decode(errors="replace").split("\n") if newline else [])
    return offset + len(whole) + len(newline)


def show(console: Console, path: Path, lines: Iterable[str]) -> None:
    for line in lines:
        console.line(f"{path.stem} | {line}")
