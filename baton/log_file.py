"""One process's log: emptied at the start of a run, bounded, searched for the last error."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 32 * 1024 * 1024
TAIL_BYTES = 64 * 1024
ERROR_PREFIX = "error: "
# A log record of that level, or the last line of a traceback: "ValueError: x".
SPEAKS_OF_ERROR = re.compile(r"\bERROR\b|\b\w*(Error|Exception)\b(:|$)")


@dataclass(frozen=True, slots=True)
class LogFile:
    path: Path

    def open(self, *, is_first: bool) -> int:
        """A descriptor for the process to write to. The first start of a run empties the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if is_first else 0)
        return os.open(self.path, flags, 0o600)

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def bound(self) -> None:
        """When it has grown too large, keep the last part beside it, in `<name>.log.1`."""
        if self.size() > MAX_BYTES:
            self.path.with_suffix(".log.1").write_bytes(self.tail(MAX_BYTES // 2))
            # The process appends, so it goes on at the new end.
            os.truncate(self.path, 0)

    def tail(self, num_bytes: int = TAIL_BYTES, since: int = 0) -> bytes:
        """At most the last `num_bytes`, from offset `since` on."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(since, file.seek(0, os.SEEK_END) - num_bytes))
                return file.read(num_bytes)
        except OSError:
            return b""

    def said_error(self, since: int = 0) -> str | None:
        """What stands after the last "error: " at the start of a line, from that offset on."""
        said = [line for line in self._lines(since) if line.startswith(ERROR_PREFIX)]
        return said[-1].removeprefix(ERROR_PREFIX) if said else None

    def last_words(self, since: int = 0) -> str | None:
        """The last line that speaks of an error, from that offset on."""
        lines = reversed(self._lines(since))
        return next((line for line in lines if SPEAKS_OF_ERROR.search(line)), None)

    def _lines(self, since: int) -> list[str]:
        text = self.tail(since=since).decode(errors="replace")
        return [line.strip() for line in text.splitlines()]
