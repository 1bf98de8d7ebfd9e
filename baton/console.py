"""Words for the person at the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from shutil import get_terminal_size
from typing import TextIO

CLEAR_LINE = "\r\033[K"


class Console:
    """Writes lines to `out` and errors to `err`.

    On a terminal, one transient line may stand below the last one. A terminal that has
    gone away is no reason to stop serving: what cannot be written is dropped.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._has_transient = False

    def line(self, text: str = "") -> None:
        self._write(self._out, f"{text}\n")

    def error(self, text: str) -> None:
        self._write(self._err, f"error: {text}\n")

    def transient(self, text: str) -> None:
        """Replaces the transient line; does nothing where lines cannot be replaced."""
        if self._out.isatty():
            self._write(self._out, text[: get_terminal_size().columns - 1])
            self._has_transient = True

    def _write(self, stream: TextIO, text: str) -> None:
        with suppress(OSError, ValueError):
            if self._has_transient:
                self._out.write(CLEAR_LINE)
                self._out.flush()
                self._has_transient = False
            stream.write(text)
            stream.flush()
